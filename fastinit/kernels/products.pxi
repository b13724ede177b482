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


cdef inline real sum_lanes(const real* a) noexcept nogil:
    if real is float:
        return float_sum(a)
    else:
        return double_sum(a)


# --- products ---------------------------------------------------------------------------------

cdef inline void product_tile(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_terms,
    const real* b, const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step,
    Finish finish, int rows, int registers,
) noexcept nogil:
    """``rows`` by ``registers`` sums; both are constants at every call, so all loops unroll."""
    cdef real acc[ROWS][2 * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t _term
    cdef int r, v
    for r in range(rows):
        for v in range(registers):
            fill(&acc[r][v * lanes], b[r] if b != NULL else 0)
    for _term in range(n_terms):
        for r in range(rows):
            for v in range(registers):
                multiply_add(&acc[r][v * lanes], A + v * lanes, W[r * row_step])
        A += A_step
        W += term_step
    for r in range(rows):
        for v in range(registers):
            if finish == RELU_BACKWARD:
                relu_backward_lanes(out + v * lanes, &acc[r][v * lanes])
            elif finish == RELU:
                relu_lanes(out + v * lanes, &acc[r][v * lanes])
            elif finish == MULTIPLY:
                multiply_lanes(out + v * lanes, &acc[r][v * lanes])
            else:
                copy(out + v * lanes, &acc[r][v * lanes])
        out += out_step


cdef inline void product_rows(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_terms,
    const real* b, const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step,
    Py_ssize_t columns, Finish finish, int rows,
) noexcept nogil:
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t j = 0, i
    cdef int r
    cdef real z
    while j + 2 * lanes <= columns:
        product_tile(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish, rows, 2
        )
        j += 2 * lanes
    while j + lanes <= columns:
        product_tile(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish, rows, 1
        )
        j += lanes
    while j < columns:
        for r in range(rows):
            z = b[r] if b != NULL else 0
            for i in range(n_terms):
                z += W[r * row_step + i * term_step] * A[i * A_step + j]
            if finish == RELU_BACKWARD:
                z *= out[r * out_step + j] > 0
            elif finish == MULTIPLY:
                z *= out[r * out_step + j]
            elif finish == RELU and z < 0:
                z = 0
            out[r * out_step + j] = z
        j += 1


cdef void product(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_rows,
    Py_ssize_t n_terms, const real* b, const real* A, Py_ssize_t A_step, real* out,
    Py_ssize_t out_step, Py_ssize_t columns, Finish finish,
) noexcept nogil:
    """``out = finish(W @ A + b)`` with ``W[r, i]`` at ``W[r * row_step + i * term_step]``.

    Steps let one body serve ``W @ A`` and ``W.T @ dZ``. ``b`` may be NULL.
    """
    cdef Py_ssize_t tiles = (n_rows + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows
    cdef const real* w
    cdef const real* c
    cdef real* o
    for t in range(tiles):
        # Even heights: ten rows are 5 + 5, not 6 + 4, whose short tile would wait on its loads.
        start = t * n_rows // tiles
        rows = (t + 1) * n_rows // tiles - start
        w = W + start * row_step
        c = b + start if b != NULL else NULL
        o = out + start * out_step
        if rows == 6:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 6
            )
        elif rows == 5:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 5
            )
        elif rows == 4:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 4
            )
        elif rows == 3:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 3
            )
        elif rows == 2:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 2
            )
        else:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 1
            )


cdef inline void gradient_tile(
    const real* dZ, Py_ssize_t dZ_step, const real* A, Py_ssize_t A_step, Py_ssize_t columns,
    real* dW, Py_ssize_t dW_step, real* db, int rows, int inputs, bint bias,
) noexcept nogil:
    """``rows`` by ``inputs`` entries of ``dW``, and of ``db`` if ``bias``; all three constants."""
    cdef real acc[ROWS][3 * MOST_LANES]
    cdef real d[MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t j = 0
    cdef int r, i
    for r in range(rows):
        for i in range(inputs + bias):
            fill(&acc[r][i * lanes], <real>0)
    while j + lanes <= columns:
        for r in range(rows):
            # A copy of its own, so that it is loaded once and not once per use.
            copy(&d[0], dZ + r * dZ_step + j)
            for i in range(inputs):
                multiply_add_lanes(&acc[r][i * lanes], &d[0], A + i * A_step + j)
            if bias:
                add(&acc[r][inputs * lanes], &d[0])
        j += lanes
    for r in range(rows):
        for i in range(inputs):
            dW[r * dW_step + i] += sum_lanes(&acc[r][i * lanes])
        if bias:
            db[r] += sum_lanes(&acc[r][inputs * lanes])
    while j < columns:
        for r in range(rows):
            for i in range(inputs):
                dW[r * dW_step + i] += dZ[r * dZ_step + j] * A[i * A_step + j]
            if bias:
                db[r] += dZ[r * dZ_step + j]
        j += 1


cdef inline void gradient_rows(
    const real* dZ, Py_ssize_t dZ_step, const real* A, Py_ssize_t A_step, Py_ssize_t n_in,
    Py_ssize_t columns, real* dW, real* db, int rows,
) noexcept nogil:
    cdef Py_ssize_t i = n_in % 2
    # The bias is summed on the way, by the first tile: on the loads that are there anyway.
    if i == 1:
        gradient_tile(dZ, dZ_step, A, A_step, columns, dW, n_in, db, rows, 1, True)
    elif n_in == 0:
        gradient_tile(dZ, dZ_step, A, A_step, columns, dW, n_in, db, rows, 0, True)
    else:
        gradient_tile(dZ, dZ_step, A, A_step, columns, dW, n_in, db, rows, 2, True)
        i = 2
    while i < n_in:
        gradient_tile(
            dZ, dZ_step, A + i * A_step, A_step, columns, dW + i, n_in, db, rows, 2, False
        )
        i += 2


cdef void gradient_product(
    const real* dZ, Py_ssize_t dZ_step, const real* A, Py_ssize_t A_step, Py_ssize_t n_out,
    Py_ssize_t n_in, Py_ssize_t columns, real* dW, real* db,
) noexcept nogil:
    """``dW += dZ @ A.T`` and ``db += sum(dZ)``."""
    cdef Py_ssize_t tiles = (n_out + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows
    cdef const real* d
    cdef real* w
    cdef real* c
    for t in range(tiles):
        start = t * n_out // tiles
        rows = (t + 1) * n_out // tiles - start
        d = dZ + start * dZ_step
        w = dW + start * n_in
        c = db + start
        if rows == 6:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 6)
        elif rows == 5:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 5)
        elif rows == 4:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 4)
        elif rows == 3:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 3)
        elif rows == 2:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 2)
        else:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 1)


# --- gradients of wide layers: lanes along the inputs, over transposed activations ---------------

cdef inline void outer_tile(
    const real* dZ, Py_ssize_t dZ_step, Py_ssize_t dZ_block, const real* A, Py_ssize_t examples,
    Py_ssize_t width, real* out, Py_ssize_t out_step, int rows, int registers,
) noexcept nogil:
    """``rows`` by ``registers`` sums of ``dZ[r, e] * A[e, i]`` over all examples of all blocks.

    ``A`` holds two registers of inputs for each example in turn.
    """
    cdef real acc[ROWS][2 * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t e
    cdef int r, v
    for r in range(rows):
        for v in range(registers):
            fill(&acc[r][v * lanes], <real>0)
    while examples > 0:
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
    Py_ssize_t width, real* out, Py_ssize_t rows, Py_ssize_t registers,
) noexcept nogil:
    """A tile of any height up to ROWS; the rows of ``out`` are two registers long."""
    cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // sizeof(real))
    if registers == 2:
        if rows == 6:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 6, 2)
        elif rows == 5:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 5, 2)
        elif rows == 4:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 4, 2)
        elif rows == 3:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 3, 2)
        elif rows == 2:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 2, 2)
        else:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 1, 2)
    else:
        if rows == 6:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 6, 1)
        elif rows == 5:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 5, 1)
        elif rows == 4:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 4, 1)
        elif rows == 3:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 3, 1)
        elif rows == 2:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 2, 1)
        else:
            outer_tile(dZ, dZ_step, dZ_block, A, examples, width, out, pair, 1, 1)


cdef void outer_product(
    const real* dZ, Py_ssize_t dZ_step, Py_ssize_t dZ_block, const real* A, Py_ssize_t A_panel,
    Py_ssize_t examples, Py_ssize_t width, Py_ssize_t n_out, Py_ssize_t n_in, bint add,
    real* dW, real* db,
) noexcept nogil:
    """``dW = dZ @ A.T`` and ``db = sum(dZ)``, or added to them.

    ``dZ`` comes in blocks of ``width`` examples, the last of which may have fewer, ``A`` in panels
    of two registers of inputs. A panel serves all rows before the next one is read.
    """
    cdef real sums[ROWS * 2 * MOST_LANES]
    cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // sizeof(real))
    cdef Py_ssize_t tiles = (n_out + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows, i = 0, n, r, k, b
    cdef real total
    cdef real* w
    while i < n_in:
        n = min(pair, n_in - i)
        for t in range(tiles):
            start = t * n_out // tiles
            rows = (t + 1) * n_out // tiles - start
            outer_rows(
                dZ + start * dZ_step, dZ_step, dZ_block, A, examples, width, &sums[0], rows,
                2 if 2 * n > pair else 1,
            )
            for r in range(rows):
                w = dW + (start + r) * n_in + i
                if add:
                    for k in range(n):
                        w[k] += sums[r * pair + k]
                else:
                    for k in range(n):
                        w[k] = sums[r * pair + k]
        i += pair
        A += A_panel
    for r in range(n_out):
        total = db[r] if add else 0
        for b in range((examples + width - 1) // width):
            total += row_sum(dZ + r * dZ_step + b * dZ_block, min(width, examples - b * width))
        db[r] = total


cdef inline real row_sum(const real* a, Py_ssize_t n) noexcept nogil:
    """Sum of a row."""
    cdef real acc[MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t e = 0
    cdef real total
    fill(&acc[0], <real>0)
    while e + lanes <= n:
        add(&acc[0], a + e)
        e += lanes
    total = sum_lanes(&acc[0])
    while e < n:
        total += a[e]
        e += 1
    return total


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
    """``out[c, r] = A[r, c]``."""
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
    const real* A, Py_ssize_t width, Py_ssize_t examples, Py_ssize_t n_in, real* out,
    Py_ssize_t out_panel,
) noexcept nogil:
    """Write a block of activations as panels: two registers of inputs for each example in turn.

    Inputs that would fill up the last panel are left as they are, zero from the start.
    """
    cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // sizeof(real))
    cdef Py_ssize_t i = 0, n
    while i < n_in:
        n = min(pair, n_in - i)
        transpose(A + i * width, width, n, examples, out, pair)
        i += pair
        out += out_panel
