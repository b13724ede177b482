# Matrix products on register tiles. There are three kinds, by what the lanes of a register are:
#
# - gemm: the columns of the right factor, which are contiguous (``W @ A``, ``W.T @ dZ``);
# - gemm_dots: the terms of the sums, contiguous in both factors (``dZ @ A.T`` in place);
# - outer_product: the columns of ``A``, transposed into panels (``dZ @ A.T`` of wide layers), which
#   needs no sums across lanes and reads less.
#
# Matrices are pointers and the steps, in numbers, from row to row.

cdef enum:
    # Inputs whose dot products with all rows are computed before the next inputs are read.
    DOTS_INPUTS = 8
    # Terms that are added to a sum between loading and storing it.
    TERMS = 4
    CACHE_LINE = 64

cdef enum Finish:
    LINEAR
    RELU
    RELU_BACKWARD
    MULTIPLY
    ADD                          # the sums start with what ``out`` holds

# --- one register of lanes, for either dtype ----------------------------------------------------

cdef inline void fill(real* out, real w) noexcept nogil:
    if real is float:
        float_fill(out, w)
    else:
        double_fill(out, w)


cdef inline void add(real* out, const real* a) noexcept nogil:
    if real is float:
        float_add(out, a)
    else:
        double_add(out, a)


cdef inline void copy(real* out, const real* a) noexcept nogil:
    if real is float:
        float_copy(out, a)
    else:
        double_copy(out, a)


cdef inline void multiply_add(real* out, const real* a, real w) noexcept nogil:
    if real is float:
        float_multiply_add(out, a, w)
    else:
        double_multiply_add(out, a, w)


cdef inline void multiply_add_lanes(real* out, const real* a, const real* b) noexcept nogil:
    if real is float:
        float_multiply_add_lanes(out, a, b)
    else:
        double_multiply_add_lanes(out, a, b)


cdef inline void relu_lanes(real* out, const real* z) noexcept nogil:
    if real is float:
        float_relu(out, z)
    else:
        double_relu(out, z)


cdef inline void relu_backward_lanes(real* a, const real* da) noexcept nogil:
    if real is float:
        float_relu_backward(a, da)
    else:
        double_relu_backward(a, da)


cdef inline void multiply_lanes(real* out, const real* a) noexcept nogil:
    if real is float:
        float_multiply(out, a)
    else:
        double_multiply(out, a)


cdef inline void copy_row(const real* a, Py_ssize_t n, real* out) noexcept nogil:
    """Copy whole registers; for short rows, the call of memcpy would take as long as the copy."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), e = 0
    while e < n:
        copy(out + e, a + e)
        e += lanes


cdef inline void copy_in(real* out, const real* a, Py_ssize_t n) noexcept nogil:
    """Copy the first ``n`` lanes, and fill the others with zeros."""
    if real is float:
        float_copy_in(out, a, n)
    else:
        double_copy_in(out, a, n)


cdef inline void copy_out(real* out, const real* a, Py_ssize_t n) noexcept nogil:
    """Copy the first ``n`` lanes only."""
    if real is float:
        float_copy_out(out, a, n)
    else:
        double_copy_out(out, a, n)


cdef inline real sum_lanes(const real* a) noexcept nogil:
    if real is float:
        return float_sum(a)
    else:
        return double_sum(a)


# --- products ---------------------------------------------------------------------------------

cdef inline void finish_tile(
    const real* acc, real* out, Py_ssize_t out_step, Finish finish, int rows, int registers
) noexcept nogil:
    """Store the sums of a tile."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef int r, v
    # One small loop for each case, which unrolls: otherwise the sums would go through memory.
    if finish == RELU_BACKWARD:
        for r in range(rows):
            for v in range(registers):
                relu_backward_lanes(
                    out + r * out_step + v * lanes, &acc[(r * registers + v) * lanes]
                )
    elif finish == RELU:
        for r in range(rows):
            for v in range(registers):
                relu_lanes(
                    out + r * out_step + v * lanes, &acc[(r * registers + v) * lanes]
                )
    elif finish == MULTIPLY:
        for r in range(rows):
            for v in range(registers):
                multiply_lanes(
                    out + r * out_step + v * lanes, &acc[(r * registers + v) * lanes]
                )
    else:
        for r in range(rows):
            for v in range(registers):
                copy(
                    out + r * out_step + v * lanes, &acc[(r * registers + v) * lanes]
                )


cdef inline void gemm_tile(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_terms,
    const real* b, const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step,
    Finish finish, int rows, int registers, const real* ahead, Py_ssize_t ahead_step,
    Py_ssize_t share, bint fetch,
) noexcept nogil:
    """Compute ``rows`` by ``registers`` sums; both are constants in every call: loops unroll.

    If ``fetch`` is true, a row at ``ahead`` is prefetched for every ``share`` terms.
    """
    cdef real acc[SUMS * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t _term, turn = share
    cdef int r, v
    for r in range(rows):
        for v in range(registers):
            if finish == ADD:
                copy(&acc[(r * registers + v) * lanes], out + r * out_step + v * lanes)
            else:
                fill(&acc[(r * registers + v) * lanes], b[r] if b != NULL else 0)
    for _term in range(n_terms):
        for r in range(rows):
            for v in range(registers):
                multiply_add(&acc[(r * registers + v) * lanes], A + v * lanes, W[r * row_step])
        if fetch:
            turn -= 1
            if turn == 0:
                for v in range(registers):
                    prefetch(ahead + v * lanes)
                ahead += ahead_step
                turn = share
        A += A_step
        W += term_step
    finish_tile(&acc[0], out, out_step, finish, rows, registers)


cdef inline void gemm_end(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_terms,
    const real* b, const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step,
    Py_ssize_t n, Finish finish, int rows,
) noexcept nogil:
    """:func:`gemm_tile` for the last ``n`` columns, which are fewer than a register has lanes."""
    cdef real acc[ROWS * MOST_LANES]
    cdef real ends[ROWS * MOST_LANES]
    cdef real a[MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t _term
    cdef int r
    for r in range(rows):
        copy_in(&ends[r * lanes], out + r * out_step, n)
        if finish == ADD:
            copy(&acc[r * lanes], &ends[r * lanes])
        else:
            fill(&acc[r * lanes], b[r] if b != NULL else 0)
    for _term in range(n_terms):
        copy_in(&a[0], A, n)
        for r in range(rows):
            multiply_add(&acc[r * lanes], &a[0], W[r * row_step])
        A += A_step
        W += term_step
    finish_tile(&acc[0], &ends[0], lanes, finish, rows, 1)
    for r in range(rows):
        copy_out(out + r * out_step, &ends[r * lanes], n)


cdef inline void gemm_rows(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_terms,
    const real* b, const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step,
    Py_ssize_t columns, Finish finish, int rows, const real* ahead,
    Py_ssize_t ahead_step, Py_ssize_t share, bint fetch,
) noexcept nogil:
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t j = 0
    # Few rows take more columns: at least eight independent sums hide the latency of additions.
    cdef int registers = 8 if rows == 1 else 4
    if rows <= 3:
        while j + registers * lanes <= columns:
            gemm_tile(
                W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish,
                rows, registers, ahead + j if fetch else ahead, ahead_step, share, fetch,
            )
            j += registers * lanes
    if rows == 1 and j + 4 * lanes <= columns:
        gemm_tile(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish, rows, 4,
            ahead + j if fetch else ahead, ahead_step, share, fetch,
        )
        j += 4 * lanes
    while j + 2 * lanes <= columns:
        gemm_tile(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish, rows, 2,
            ahead + j if fetch else ahead, ahead_step, share, fetch,
        )
        j += 2 * lanes
    while j + lanes <= columns:
        gemm_tile(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish, rows, 1,
            ahead + j if fetch else ahead, ahead_step, share, fetch,
        )
        j += lanes
    if j < columns:
        gemm_end(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, columns - j,
            finish, rows,
        )


cdef inline void gemm_by(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_rows,
    Py_ssize_t n_terms, const real* b, const real* A, Py_ssize_t A_step, real* out,
    Py_ssize_t out_step, Py_ssize_t columns, Finish finish, const real* ahead,
    Py_ssize_t ahead_step, bint fetch,
) noexcept nogil:
    """:func:`gemm`, with tiles of constant heights."""
    cdef Py_ssize_t tiles = (n_rows + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows, share = min(tiles, n_terms)
    cdef const real* w
    cdef const real* c
    cdef real* o
    cdef const real* next_rows
    for t in range(tiles):
        # Tiles of equal height, 5 + 5 rows rather than 6 + 4: short tiles are limited by loads.
        start = t * n_rows // tiles
        rows = (t + 1) * n_rows // tiles - start
        w = W + start * row_step
        c = b + start if b != NULL else NULL
        o = out + start * out_step
        # Each tile prefetches its share of the rows, at least one, so that memory is busy all the
        # time. A few rows at the ends of shares are left out.
        next_rows = ahead + t * n_terms // tiles * ahead_step if fetch else ahead
        if rows == 6:
            gemm_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 6,
                next_rows, ahead_step, share, fetch,
            )
        elif rows == 5:
            gemm_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 5,
                next_rows, ahead_step, share, fetch,
            )
        elif rows == 4:
            gemm_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 4,
                next_rows, ahead_step, share, fetch,
            )
        elif rows == 3:
            gemm_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 3,
                next_rows, ahead_step, share, fetch,
            )
        elif rows == 2:
            gemm_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 2,
                next_rows, ahead_step, share, fetch,
            )
        else:
            gemm_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 1,
                next_rows, ahead_step, share, fetch,
            )


cdef void gemm(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_rows,
    Py_ssize_t n_terms, const real* b, const real* A, Py_ssize_t A_step, real* out,
    Py_ssize_t out_step, Py_ssize_t columns, Finish finish,
) noexcept nogil:
    """Compute ``out = finish(W @ A + b)`` with ``W[r, i]`` at ``W[r * row_step + i * term_step]``.

    Steps let one body serve ``W @ A`` and ``W.T @ dZ``. ``b`` may be NULL.
    """
    gemm_by(
        W, row_step, term_step, n_rows, n_terms, b, A, A_step, out, out_step, columns, finish,
        <const real*>NULL, 0, False,
    )


cdef void gemm_ahead(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_rows,
    Py_ssize_t n_terms, const real* b, const real* A, Py_ssize_t A_step, real* out,
    Py_ssize_t out_step, Py_ssize_t columns, Finish finish,
    const real* ahead, Py_ssize_t ahead_step,
) noexcept nogil:
    """:func:`gemm` that prefetches a matrix of the shape of ``A`` at ``ahead``."""
    gemm_by(
        W, row_step, term_step, n_rows, n_terms, b, A, A_step, out, out_step, columns, finish,
        ahead, ahead_step, True,
    )


cdef inline void add_terms(
    const real* W, Py_ssize_t W_step, Py_ssize_t n_rows, const real* A, Py_ssize_t A_step,
    real* out, Py_ssize_t out_step, Py_ssize_t columns, int terms,
) noexcept nogil:
    """Add some terms to all sums; their number is a constant in every call: loops unroll."""
    cdef real acc[2 * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), j = 0, r
    cdef int k, v
    while j < columns:
        for r in range(n_rows):
            for v in range(2):
                copy(&acc[v * lanes], out + r * out_step + j + v * lanes)
            for k in range(terms):
                for v in range(2):
                    multiply_add(
                        &acc[v * lanes], A + k * A_step + j + v * lanes, W[r * W_step + k]
                    )
            for v in range(2):
                copy(out + r * out_step + j + v * lanes, &acc[v * lanes])
        j += 2 * lanes


cdef void gemm_in_order(
    const real* W, Py_ssize_t W_step, Py_ssize_t n_rows, Py_ssize_t n_terms, const real* b,
    const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step, Py_ssize_t out_block,
    Py_ssize_t columns, Py_ssize_t blocks, bint add,
) noexcept nogil:
    """:func:`gemm` that reads each row of ``A`` once, from its first column to its last.

    ``out`` is in blocks of columns, which are pairs of registers. It is ``W @ A + b``, or
    ``W @ A`` is added to it if ``add``. The results are the same bits as those of tiles. If ``A``
    is not in a cache, this is faster: tiles read a few columns of all rows before they read the
    next ones. The sums are not kept in registers but in the nearest cache, so they must be few.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), term = 0, block, r, j
    cdef const real* w
    cdef const real* a
    if n_rows == 1 and out_block == columns:
        # The blocks follow each other.
        columns *= blocks
        blocks = 1
    for block in range(0 if add else blocks):
        for r in range(n_rows):
            j = 0
            while j < columns:
                fill(out + block * out_block + r * out_step + j, b[r] if b != NULL else 0)
                j += lanes
    while term < n_terms:
        w = W + term
        for block in range(blocks):
            a = A + term * A_step + block * columns
            if term + TERMS <= n_terms:
                add_terms(
                    w, W_step, n_rows, a, A_step, out + block * out_block, out_step, columns, TERMS
                )
            else:
                add_terms(
                    w, W_step, n_rows, a, A_step, out + block * out_block, out_step, columns, 1
                )
        term += TERMS if term + TERMS <= n_terms else 1


cdef struct Blocks:
    # Two matrices in blocks of columns: the steps from row to row and from block to block.
    Py_ssize_t dZ_step
    Py_ssize_t dZ_block
    Py_ssize_t A_step
    Py_ssize_t A_block
    Py_ssize_t columns           # of all blocks
    Py_ssize_t width             # of one


cdef inline void dots_tile(
    const real* dZ, const real* A, const Blocks* blocks, real* dW, Py_ssize_t dW_step, real* db,
    Py_ssize_t ahead, int rows, int inputs, bint bias, bint spread,
) noexcept nogil:
    """Add to ``rows`` by ``inputs`` entries of ``dW``, and to ``db`` if ``bias``; all constants.

    If ``spread`` is true, ``dW`` and ``db`` have a register for each entry, whose lanes are summed
    at the end: for many blocks this is less work. The inputs ``ahead`` of these are prefetched.
    """
    cdef Py_ssize_t dZ_step = blocks.dZ_step, A_step = blocks.A_step
    cdef Py_ssize_t columns, rest = blocks.columns
    # Each bias has a register too.
    cdef real acc[(SUMS + ROWS) * MOST_LANES]
    cdef real d[MOST_LANES]
    cdef real a[DOTS_INPUTS * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t j = 0
    cdef int r, i, row = inputs + bias
    for r in range(rows):
        for i in range(inputs + bias):
            fill(&acc[(r * row + i) * lanes], <real>0)
    while True:
        columns = min(rest, blocks.width)
        j = 0
        while j + lanes <= columns:
            for r in range(rows):
                # A local copy, so that it is loaded once and not once per use.
                copy(&d[0], dZ + r * dZ_step + j)
                if r == 0 and rows > 1:
                    # The inputs of the next round: rows of X are too short for the hardware
                    # prefetcher. With a single row, prefetching takes longer than it saves.
                    for i in range(inputs):
                        prefetch(A + (i + ahead) * A_step + j)
                for i in range(inputs):
                    multiply_add_lanes(&acc[(r * row + i) * lanes], &d[0], A + i * A_step + j)
                if bias:
                    add(&acc[(r * row + inputs) * lanes], &d[0])
            j += lanes
        if j < columns:
            for i in range(inputs):
                copy_in(&a[i * lanes], A + i * A_step + j, columns - j)
            for r in range(rows):
                copy_in(&d[0], dZ + r * dZ_step + j, columns - j)
                for i in range(inputs):
                    multiply_add_lanes(&acc[(r * row + i) * lanes], &d[0], &a[i * lanes])
                if bias:
                    add(&acc[(r * row + inputs) * lanes], &d[0])
        rest -= columns
        if rest <= 0:
            break
        dZ += blocks.dZ_block
        A += blocks.A_block
    if spread:
        for r in range(rows):
            for i in range(inputs):
                add(dW + (r * dW_step + i) * lanes, &acc[(r * row + i) * lanes])
            if bias:
                add(db + r * lanes, &acc[(r * row + inputs) * lanes])
        return
    for r in range(rows):
        for i in range(inputs):
            dW[r * dW_step + i] += sum_lanes(&acc[(r * row + i) * lanes])
        if bias:
            db[r] += sum_lanes(&acc[(r * row + inputs) * lanes])


cdef inline Py_ssize_t inputs_ahead(
    Py_ssize_t i, Py_ssize_t tile, Py_ssize_t tiles
) noexcept nogil:
    """Return how many inputs ahead of input ``i`` a tile of rows prefetches.

    Each tile prefetches its share of the inputs of the next round. For its other inputs this is 0:
    what is prefetched is read at once, which has no effect.
    """
    return DOTS_INPUTS if i * tiles // DOTS_INPUTS == tile else 0


cdef inline void dots_rows(
    const real* dZ, const real* A, const Blocks* blocks, Py_ssize_t n_in, real* dW,
    Py_ssize_t dW_step, real* db, Py_ssize_t tile, Py_ssize_t tiles, int rows, bint spread,
) noexcept nogil:
    cdef Py_ssize_t i = n_in % 2
    # Few rows take more inputs: at least eight independent sums hide the latency of additions.
    cdef int inputs = 8 if rows == 1 else 4
    cdef Py_ssize_t apart = VECTOR_BYTES // sizeof(real) if spread else 1
    cdef Py_ssize_t ahead = inputs_ahead(0, tile, tiles)
    # The first tile also sums the biases, whose terms it loads anyway.
    if db == NULL:
        if i == 1:
            dots_tile(dZ, A, blocks, dW, dW_step, db, ahead, rows, 1, False, spread)
    elif i == 1:
        dots_tile(dZ, A, blocks, dW, dW_step, db, ahead, rows, 1, True, spread)
    elif n_in == 0:
        dots_tile(dZ, A, blocks, dW, dW_step, db, ahead, rows, 0, True, spread)
    else:
        dots_tile(dZ, A, blocks, dW, dW_step, db, ahead, rows, 2, True, spread)
        i = 2
    if rows <= 3:
        while i + inputs <= n_in:
            dots_tile(
                dZ, A + i * blocks.A_step, blocks, dW + i * apart, dW_step, db,
                inputs_ahead(i, tile, tiles), rows, inputs, False, spread,
            )
            i += inputs
    while i < n_in:
        dots_tile(
            dZ, A + i * blocks.A_step, blocks, dW + i * apart, dW_step, db,
            inputs_ahead(i, tile, tiles), rows, 2, False, spread,
        )
        i += 2


cdef void gemm_dots(
    const real* dZ, const real* A, const Blocks* blocks, Py_ssize_t n_out, Py_ssize_t n_in,
    real* dW, Py_ssize_t dW_step, real* db, bint spread,
) noexcept nogil:
    """Compute ``dW += dZ @ A.T`` and ``db += sum(dZ)``; ``db`` may be NULL.

    ``spread`` is as in :func:`dots_tile`.
    """
    cdef Py_ssize_t tiles = (n_out + ROWS - 1) // ROWS
    cdef Py_ssize_t apart = VECTOR_BYTES // sizeof(real) if spread else 1
    cdef Py_ssize_t t, start, rows, i = 0, n
    cdef const real* d
    cdef real* w
    cdef real* c
    while i < n_in or (n_in == 0 and i == 0):
        # If the number of inputs is odd, the first round takes one fewer.
        n = min(n_in - i, DOTS_INPUTS if i > 0 or n_in % 2 == 0 else DOTS_INPUTS - 1)
        for t in range(tiles):
            start = t * n_out // tiles
            rows = (t + 1) * n_out // tiles - start
            d = dZ + start * blocks.dZ_step
            w = dW + (start * dW_step + i) * apart
            c = db + start * apart if db != NULL and i == 0 else NULL
            if spread:
                if rows == 6:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 6, True)
                elif rows == 5:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 5, True)
                elif rows == 4:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 4, True)
                elif rows == 3:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 3, True)
                elif rows == 2:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 2, True)
                else:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 1, True)
            else:
                if rows == 6:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 6, False)
                elif rows == 5:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 5, False)
                elif rows == 4:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 4, False)
                elif rows == 3:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 3, False)
                elif rows == 2:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 2, False)
                else:
                    dots_rows(d, A, blocks, n, w, dW_step, c, t, tiles, 1, False)
        A += n * blocks.A_step
        i += max(n, <Py_ssize_t>1)


cdef void sum_spread(const real* spread, Py_ssize_t n, real* out) noexcept nogil:
    """Sum the lanes of each register of a spread gradient."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), k
    for k in range(n):
        out[k] = sum_lanes(spread + k * lanes)


cdef inline Blocks one_block(
    Py_ssize_t dZ_step, Py_ssize_t A_step, Py_ssize_t columns
) noexcept nogil:
    cdef Blocks blocks
    blocks.dZ_step = dZ_step
    blocks.A_step = A_step
    blocks.dZ_block = blocks.A_block = 0
    blocks.columns = blocks.width = columns
    return blocks


# --- gradients of wide layers: lanes along the inputs, over transposed activations ---------------

cdef struct Ahead:
    # Rows that are read after a product, and prefetched while it is computed.
    const void* rows
    Py_ssize_t step              # in bytes
    Py_ssize_t n


cdef inline void outer_tile(
    const real* dZ, Py_ssize_t dZ_step, Py_ssize_t dZ_block, const real* A, Py_ssize_t examples,
    Py_ssize_t width, real* out, Py_ssize_t out_step, const Ahead* ahead, int rows, int registers,
) noexcept nogil:
    """Compute ``rows`` by ``registers`` sums of ``dZ[r, e] * A[e, i]`` over all examples.

    ``A`` holds two registers of inputs of one example after the other. Before each block, the
    columns of this block are prefetched in the rows at ``ahead``: many prefetches at once would
    wait for memory as loads do.
    """
    cdef real acc[ROWS][2 * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t e, k, line, at = 0, block = width * sizeof(real)
    cdef int r, v
    for r in range(rows):
        for v in range(registers):
            fill(&acc[r][v * lanes], <real>0)
    while examples > 0:
        for k in range(ahead.n):
            for line in range((block + CACHE_LINE - 1) // CACHE_LINE):
                prefetch(<const char*>ahead.rows + k * ahead.step + at + line * CACHE_LINE)
        at += block
        for e in range(min(width, examples)):
            for r in range(rows):
                for v in range(registers):
                    multiply_add(&acc[r][v * lanes], A + v * lanes, dZ[r * dZ_step + e])
            A += 2 * lanes
        dZ += dZ_block
        examples -= width
    for r in range(rows):
        for v in range(registers):
            copy(out + v * lanes, &acc[r][v * lanes])
        out += out_step


cdef void outer_rows(
    const real* dZ, Py_ssize_t dZ_step, Py_ssize_t dZ_block, const real* A, Py_ssize_t examples,
    Py_ssize_t width, real* out, Py_ssize_t out_step, const Ahead* ahead, Py_ssize_t rows,
    Py_ssize_t registers,
) noexcept nogil:
    """Compute a tile of any height up to ROWS."""
    if registers == 2:
        if rows == 6:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 6, 2)
        elif rows == 5:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 5, 2)
        elif rows == 4:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 4, 2)
        elif rows == 3:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 3, 2)
        elif rows == 2:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 2, 2)
        else:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 1, 2)
    else:
        if rows == 6:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 6, 1)
        elif rows == 5:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 5, 1)
        elif rows == 4:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 4, 1)
        elif rows == 3:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 3, 1)
        elif rows == 2:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 2, 1)
        else:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, out_step, ahead, 1, 1)


cdef void outer_product(
    const real* dZ, Py_ssize_t dZ_step, Py_ssize_t dZ_block, const real* A, Py_ssize_t A_panel,
    Py_ssize_t examples, Py_ssize_t width, Py_ssize_t n_out, Py_ssize_t n_in, bint add,
    real* dW, Py_ssize_t dW_step, const Ahead* ahead,
) noexcept nogil:
    """Compute ``dW = dZ @ A.T``, or ``dW += dZ @ A.T`` if ``add``.

    ``dZ`` is in blocks of ``width`` examples, the last of which may have fewer, and ``A`` in panels
    of two registers of inputs. A panel is used for all rows before the next one is read. The rows
    at ``ahead`` are prefetched, once for each panel; it may be NULL.
    """
    cdef real sums[ROWS * 2 * MOST_LANES]
    cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // sizeof(real))
    cdef Py_ssize_t tiles = (n_out + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows, i = 0, n, r, k
    cdef real* w
    cdef Ahead own
    own.n = own.step = 0
    own.rows = A
    while i < n_in:
        n = min(pair, n_in - i)
        for t in range(tiles):
            start = t * n_out // tiles
            rows = (t + 1) * n_out // tiles - start
            w = dW + start * dW_step + i
            if ahead != NULL:
                # Each tile prefetches its share.
                r = t * ahead.n // tiles
                own.rows = <const char*>ahead.rows + r * ahead.step
                own.step = ahead.step
                own.n = (t + 1) * ahead.n // tiles - r
            if add:
                # The sums are added to these rows after the product.
                for r in range(rows):
                    prefetch(w + r * dW_step)
                    prefetch(w + r * dW_step + n - 1)
            if n == pair and not add:
                outer_rows(
                    dZ + start * dZ_step, dZ_step, dZ_block, A, examples, width, w, dW_step, &own,
                    rows, 2,
                )
                continue
            outer_rows(
                dZ + start * dZ_step, dZ_step, dZ_block, A, examples, width, &sums[0], pair, &own,
                rows, 2 if 2 * n > pair else 1,
            )
            for r in range(rows):
                w = dW + (start + r) * dW_step + i
                if add:
                    for k in range(n):
                        w[k] += sums[r * pair + k]
                else:
                    for k in range(n):
                        w[k] = sums[r * pair + k]
        i += pair
        A += A_panel


cdef void sum_rows(
    const real* dZ, Py_ssize_t dZ_step, Py_ssize_t dZ_block, Py_ssize_t examples, Py_ssize_t width,
    Py_ssize_t n_out, bint add, real* db,
) noexcept nogil:
    """Compute ``db = sum(dZ)``, or add to ``db``; blocks are those of :func:`outer_product`."""
    cdef Py_ssize_t r, b
    cdef real total
    for r in range(n_out):
        total = db[r] if add else 0
        for b in range((examples + width - 1) // width):
            total += row_sum(dZ + r * dZ_step + b * dZ_block, min(width, examples - b * width))
        db[r] = total


cdef inline real row_sum(const real* a, Py_ssize_t n) noexcept nogil:
    """Return the sum of a row."""
    cdef real acc[MOST_LANES]
    cdef real last[MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t e = 0
    fill(&acc[0], <real>0)
    while e + lanes <= n:
        add(&acc[0], a + e)
        e += lanes
    if e < n:
        copy_in(&last[0], a + e, n - e)
        add(&acc[0], &last[0])
    return sum_lanes(&acc[0])


cdef inline void square(
    real* out, Py_ssize_t out_step, const real* a, Py_ssize_t a_step
) noexcept nogil:
    if real is float:
        float_transpose(out, out_step, a, a_step)
    else:
        double_transpose(out, out_step, a, a_step)


cdef void transpose(
    const real* A, Py_ssize_t A_step, Py_ssize_t rows, Py_ssize_t columns, real* out,
    Py_ssize_t out_step,
) noexcept nogil:
    """Write ``out[c, r] = A[r, c]``."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t whole = rows // lanes * lanes
    cdef Py_ssize_t c = 0, r, k
    while c + lanes <= columns:
        r = 0
        while r < whole:
            square(out + c * out_step + r, out_step, A + r * A_step + c, A_step)
            r += lanes
        for r in range(whole, rows):
            for k in range(c, c + lanes):
                out[k * out_step + r] = A[r * A_step + k]
        c += lanes
    for k in range(c, columns):
        for r in range(rows):
            out[k * out_step + r] = A[r * A_step + k]


cdef void make_panels(
    const real* A, Py_ssize_t A_step, Py_ssize_t examples, Py_ssize_t n_in, real* out,
    Py_ssize_t out_panel,
) noexcept nogil:
    """Write a block of activations as panels: two registers of inputs of each example in turn."""
    cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // sizeof(real))
    cdef Py_ssize_t i = 0, n
    while i < n_in:
        n = min(pair, n_in - i)
        transpose(A + i * A_step, A_step, n, examples, out, pair)
        end_panel(n, examples, out)
        i += pair
        out += out_panel


cdef void end_panel(Py_ssize_t n_inputs, Py_ssize_t examples, real* out) noexcept nogil:
    """Fill the unused inputs of a panel with zeros.

    The sums made of them are not used. But if the memory happened to hold subnormal numbers, each
    multiply-add would take a hundred cycles.
    """
    cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // sizeof(real)), e, i
    if n_inputs == pair:
        return
    for e in range(examples):
        for i in range(n_inputs, pair):
            out[e * pair + i] = 0


# --- registers of networks ------------------------------------------------------------------------

cdef inline void lanes_tile(
    const real* P, Py_ssize_t P_row, Py_ssize_t P_term, Py_ssize_t n_terms, const real* b,
    const real* Q, Py_ssize_t Q_term, Py_ssize_t Q_column, real* out, Py_ssize_t out_row,
    int rows, int columns, bint scalars,
) noexcept nogil:
    """Compute ``rows`` by ``columns`` sums of ``P[r, t] * Q[t, c]``, a register of networks each.

    If ``scalars`` is true, ``Q`` holds numbers that all networks share.
    """
    cdef real acc[ROWS][2 * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t _term
    cdef int r, c
    for r in range(rows):
        for c in range(columns):
            if b != NULL:
                copy(&acc[r][c * lanes], b + r * lanes)
            else:
                fill(&acc[r][c * lanes], <real>0)
    for _term in range(n_terms):
        for r in range(rows):
            for c in range(columns):
                if scalars:
                    multiply_add(&acc[r][c * lanes], P + r * P_row, Q[c * Q_column])
                else:
                    multiply_add_lanes(&acc[r][c * lanes], P + r * P_row, Q + c * Q_column)
        P += P_term
        Q += Q_term
    for r in range(rows):
        for c in range(columns):
            copy(out + r * out_row + c * lanes, &acc[r][c * lanes])


cdef inline void lanes_rows(
    const real* P, Py_ssize_t P_row, Py_ssize_t P_term, Py_ssize_t n_terms, const real* b,
    const real* Q, Py_ssize_t Q_term, Py_ssize_t Q_column, real* out, Py_ssize_t out_row,
    Py_ssize_t n_columns, int rows, bint scalars,
) noexcept nogil:
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t c = 0
    while c + 2 <= n_columns:
        lanes_tile(
            P, P_row, P_term, n_terms, b, Q + c * Q_column, Q_term, Q_column, out + c * lanes,
            out_row, rows, 2, scalars,
        )
        c += 2
    if c < n_columns:
        lanes_tile(
            P, P_row, P_term, n_terms, b, Q + c * Q_column, Q_term, Q_column, out + c * lanes,
            out_row, rows, 1, scalars,
        )


cdef void gemm_lanes(
    const real* P, Py_ssize_t P_row, Py_ssize_t P_term, Py_ssize_t n_rows, Py_ssize_t n_terms,
    const real* b, const real* Q, Py_ssize_t Q_term, Py_ssize_t Q_column, real* out,
    Py_ssize_t out_row, Py_ssize_t n_columns, bint scalars,
) noexcept nogil:
    """Compute ``out = P @ Q + b`` for a register of networks; ``b`` may be NULL.

    Steps are in numbers. Neighbours in a row of ``out`` are a register apart.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t tiles = (n_rows + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows
    cdef const real* p
    cdef const real* c
    cdef real* o
    for t in range(tiles):
        start = t * n_rows // tiles
        rows = (t + 1) * n_rows // tiles - start
        p = P + start * P_row
        c = b + start * lanes if b != NULL else NULL
        o = out + start * out_row
        if scalars:
            if rows == 6:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 6,
                    True,
                )
            elif rows == 5:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 5,
                    True,
                )
            elif rows == 4:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 4,
                    True,
                )
            elif rows == 3:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 3,
                    True,
                )
            elif rows == 2:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 2,
                    True,
                )
            else:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 1,
                    True,
                )
        else:
            if rows == 6:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 6,
                    False,
                )
            elif rows == 5:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 5,
                    False,
                )
            elif rows == 4:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 4,
                    False,
                )
            elif rows == 3:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 3,
                    False,
                )
            elif rows == 2:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 2,
                    False,
                )
            else:
                lanes_rows(
                    p, P_row, P_term, n_terms, c, Q, Q_term, Q_column, o, out_row, n_columns, 1,
                    False,
                )
