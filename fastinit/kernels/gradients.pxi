# The strategies. Each is a function of one signature that runs one iteration of a job: the gradient
# of its batch and the update.
#
# - narrow: a block of examples passes forward and backward through all layers while it stays in the
#   nearest caches, and adds its share to the gradient at once. The blocks form a fixed number of
#   parts with a gradient each, which are added up in order.
# - wide: a gradient as large as the weights would have to be read and written for every block.
#   Instead the resident blocks keep what the products need. After the backward pass of all of them,
#   each piece of the weights gets its whole gradient, and its update while that is in cache. With
#   many blocks, all but the largest networks compute gradients in parts, as narrow ones do.
# - thin: batches of fewer examples than a register has lanes. The lanes run along the inputs of a
#   layer; the activations of an example are contiguous.
# - interleaved: batches of few examples and few parameters. The lanes are networks.
#
# In the backward pass, the gradient of a layer's pre-activations overwrites its activations.


# --- a block of examples: narrow and wide ---------------------------------------------------------

cdef inline const real* biases_of(
    const real* theta, const Shape* shape, Py_ssize_t layer,
) noexcept nogil:
    """Return the address of a layer's biases; NULL if it has none."""
    if not shape.bias:
        return NULL
    return theta + shape.weights_at[layer] + shape.sizes[layer + 1] * shape.sizes[layer]


cdef void forward_block(
    const real* theta, const Shape* shape, const real* X, Py_ssize_t X_step, real* activations,
    real* derivatives, Py_ssize_t columns,
) noexcept nogil:
    """Fill the rows of ``activations``, layer by layer; the last layer stays linear.

    If ``X`` is NULL, ``activations`` already holds the first layer's pre-activations.
    """
    cdef const real* A = X
    cdef const real* W
    cdef real* Z
    cdef Py_ssize_t width = shape.width, A_step = X_step
    cdef Py_ssize_t layer, n_in, n_out, n, at
    # Rows of X that are read where they lie may be in main memory.
    cdef bint last, in_order = X != NULL and X_step != width
    for layer in range(shape.n_layers):
        n_in = shape.sizes[layer]
        n_out = shape.sizes[layer + 1]
        last = layer == shape.n_layers - 1
        W = theta + shape.weights_at[layer]
        Z = activations + shape.rows_at[layer] * width
        if layer == 0 and in_order:
            gemm_in_order(
                W, n_in, n_out, n_in, biases_of(theta, shape, layer), A, A_step, Z, width, 0,
                columns, 1, False,
            )
        elif A != NULL:
            gemm(
                W, n_in, 1, n_out, n_in, biases_of(theta, shape, layer), A, A_step, Z, width,
                columns, RELU if is_relu(shape.activation) and not last else LINEAR,
            )
        if not last and (not is_relu(shape.activation) or A == NULL or layer == 0 and in_order):
            # Whole rows follow each other.
            n = n_out * width if columns == width else columns
            at = 0
            while at < n_out * width:
                activate_row(
                    Z + at, derivatives + shape.rows_at[layer] * width + at, n, shape.activation,
                    <real>shape.negative_slope,
                )
                at += max(n, width)
        A = Z
        A_step = width


cdef void write_outputs(
    const real* A, Py_ssize_t A_step, const Job* job, Py_ssize_t n_out, Py_ssize_t start,
    Py_ssize_t n,
) noexcept nogil:
    """Copy the outputs of some examples to the array of the caller."""
    cdef Py_ssize_t row = job.outputs_row, column = job.outputs_column, r, e
    cdef real* out = <real*>job.outputs + start * column
    if row == 1 and n_out > 1:
        transpose(A, A_step, n_out, n, out, column)
        return
    for r in range(n_out):
        for e in range(n):
            out[r * row + e * column] = A[r * A_step + e]


cdef double lose_block(
    real* dZ, const Call* call, const Job* job, const Workspace* space, Py_ssize_t rank,
    Py_ssize_t start, Py_ssize_t n, Py_ssize_t width, Py_ssize_t columns,
) noexcept nogil:
    """Return the sum of a block's losses; overwrite the ``Z`` of the outputs with ``dZ``.

    A forward pass also writes its outputs.
    """
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t n_out = shape.sizes[shape.n_layers], Y_step, r, e
    cdef const real* Y = labels_of(<const real*>call.data.Y, call, space, rank, start, n, &Y_step)
    cdef const real* w = weights_of(<const real*>call.data.weights, call, space, rank, start, n)
    cdef real* A = NULL
    cdef double total
    if job.outputs != NULL:
        A = <real*>space.outputs + rank * n_out * width
    total = loss_block(
        shape.loss, dZ, Y, Y_step, w, A, n_out, width, n, scale_of(space, <real>0)
    )
    if A != NULL:
        write_outputs(A, width, job, n_out, start, n)
    # Padding examples contribute no gradient.
    for r in range(n_out):
        for e in range(n, columns):
            dZ[r * width + e] = 0
    return total


cdef void backward_layer(
    const real* theta, const Shape* shape, const Workspace* space, Py_ssize_t layer,
    const real* dZ, real* A, const real* derivatives, Py_ssize_t columns,
) noexcept nogil:
    """Overwrite the inputs of a layer with the gradient of the pre-activations that they came from.

    ``W.T`` is read from the transposed weights, whose rows are contiguous, if the layer has them.
    """
    cdef Py_ssize_t n_in = shape.sizes[layer], n_out = shape.sizes[layer + 1]
    cdef Py_ssize_t width = shape.width, at = 0
    cdef Py_ssize_t n = n_in * width if columns == width else columns
    cdef const real* W = theta + shape.weights_at[layer]
    cdef Py_ssize_t W_row = 1, W_term = n_in
    if has_transposed(shape, layer):
        W = <const real*>space.transposed + shape.transposed_at[layer]
        W_row = transposed_step(shape, layer, CACHE_LINE // sizeof(real))
        W_term = 1
    if not is_relu(shape.activation):
        while at < n_in * width:
            derivatives_of_row(
                A + at, derivatives + shape.rows_at[layer - 1] * width + at, n, shape.activation,
                <real>shape.negative_slope,
            )
            at += max(n, width)
    gemm(
        W, W_row, W_term, n_in, n_out, <const real*>NULL, dZ, width, A, width, columns,
        RELU_BACKWARD if is_relu(shape.activation) else MULTIPLY,
    )


# --- narrow ---------------------------------------------------------------------------------------

cdef double narrow_block(
    const real* theta, Call* call, const Job* job, const Workspace* space, Py_ssize_t block,
    Py_ssize_t rank, real* gradient,
) noexcept nogil:
    """Run a block forward and backward, and add to ``gradient``; return the sum of its losses."""
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), width = shape.width
    cdef Py_ssize_t start = block * width, n = min(width, space.n - start), step, layer, n_in, n_out
    cdef Py_ssize_t columns = ceil_div(n, lanes) * lanes, apart = lanes if shape.spread else 1, at
    cdef const real* X = block_of_X(
        <const real*>call.data.X, call, space, rank, start, n, 0, shape.sizes[0], &step
    )
    cdef real* activations = <real*>space.activations + rank * rows_of(shape) * width
    cdef real* derivatives = <real*>space.derivatives
    cdef real* dZ = activations + shape.rows_at[shape.n_layers - 1] * width
    cdef real* A
    cdef real* db
    cdef Blocks blocks
    cdef double total
    if keeps_derivatives(shape.activation):
        derivatives += rank * rows_of(shape) * width
    forward_block(theta, shape, X, step, activations, derivatives, columns)
    total = lose_block(dZ, call, job, space, rank, start, n, width, columns)
    if job.outputs != NULL:
        return total
    for layer in range(shape.n_layers - 1, -1, -1):
        n_in = shape.sizes[layer]
        n_out = shape.sizes[layer + 1]
        A = activations + shape.rows_at[layer - 1] * width if layer > 0 else NULL
        blocks = one_block(width, width if layer > 0 else step, columns)
        db = NULL
        at = shape.weights_at[layer] * apart
        if shape.bias:
            db = gradient + at + n_out * n_in * apart
        gemm_dots(
            dZ, <const real*>A if layer > 0 else X, &blocks, n_out, n_in, gradient + at, n_in, db,
            shape.spread,
        )
        if layer > 0:
            backward_layer(theta, shape, space, layer, dZ, A, derivatives, columns)
            dZ = A
    return total


cdef void step_narrow(
    const real* theta, Call* call, Job* job, Workspace* space, Team* team, Py_ssize_t rank
) noexcept nogil:
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t n = shape.n_parameters, part = team_take(team), block, k, size
    cdef real* gradient = <real*>space.gradient
    cdef real* own
    cdef double total
    while part < shape.parts and not is_interrupted(call):
        own = gradient + part * n
        size = n * sizeof(real)
        if shape.spread:
            own = <real*>space.spread + rank * n * (VECTOR_BYTES // sizeof(real))
            size = n * VECTOR_BYTES
        if job.outputs == NULL:
            memset(own, 0, size)
        total = 0
        for block in range(
            part * space.blocks // shape.parts, (part + 1) * space.blocks // shape.parts
        ):
            if is_interrupted(call):
                break
            total += narrow_block(theta, call, job, space, block, rank, own)
            look_for_signals(call, team, rank, 3 * shape.width * n * team.size)
        space.partial_costs[part] = total
        if shape.spread and job.outputs == NULL:
            sum_spread(own, n, gradient + part * n)
        part = team_take(team)
    wait_for_parts(call, team, rank, 3 * space.n * n)
    if team_arrive(team):
        if is_interrupted(call):
            team.leaving = 1
            leave(theta, job, team)
        else:
            for part in range(shape.parts):
                job.cost += space.partial_costs[part]
            if job.outputs == NULL:
                own = gradient
                for part in range(1, shape.parts):
                    own += n
                    for k in range(n):
                        gradient[k] += own[k]
                if job.rule.optimizer == NULL:
                    memcpy(job.gradient, gradient, n * sizeof(real))
                elif update_all(theta, <const real*>gradient, shape, job):
                    counter_store(&team.nonfinite, 1)
            finish_iteration(theta, call, job, space, team)
        team_release(team)


# --- wide -----------------------------------------------------------------------------------------

cdef void transpose_weights(const real* theta, const Shape* shape, Workspace* space) noexcept nogil:
    cdef Py_ssize_t layer, n_in, n_out
    for layer in range(1, shape.n_layers):
        n_in = shape.sizes[layer]
        n_out = shape.sizes[layer + 1]
        if has_transposed(shape, layer):
            transpose(
                theta + shape.weights_at[layer], n_in, n_out, n_in,
                <real*>space.transposed + shape.transposed_at[layer],
                transposed_step(shape, layer, CACHE_LINE // sizeof(real)),
            )


cdef void copy_inputs(
    const real* X, const Call* call, const Workspace* space, Py_ssize_t first_block,
    Py_ssize_t resident, Py_ssize_t input, Py_ssize_t k, real* examples, real* out,
) noexcept nogil:
    """Copy some inputs of all resident blocks that are not packed; (blocks, inputs, width).

    Rows of X are read along all blocks, because memory is fastest in order.
    """
    cdef const Data* data = &call.data
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t width = shape.width, slot, i, n, start = first_block * width
    cdef const real* x = X + input * data.X_row + start
    if space.batch != NULL:
        for slot in range(resident):
            n = min(width, space.n - start - slot * width)
            gather(
                X, data, space, start + slot * width, n, width, input, k, examples,
                out + slot * shape.input_chunk * width,
            )
        return
    resident = min(resident, data.first_packed - first_block)
    for i in range(k):
        for slot in range(resident):
            copy_row(x + slot * width, width, out + (slot * shape.input_chunk + i) * width)
        x += data.X_row


cdef void input_part(
    const real* theta, Call* call, const Workspace* space, Py_ssize_t part, Py_ssize_t first_block,
    Py_ssize_t resident, Py_ssize_t rank,
) noexcept nogil:
    """Compute the first layer's products over a part of its inputs, for all resident blocks."""
    cdef const Shape* shape = &call.shape
    cdef const real* X = <const real*>call.data.X
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), width = shape.width
    cdef Py_ssize_t n_in = shape.sizes[0], n_out = shape.sizes[1]
    cdef Py_ssize_t input = part * n_in // shape.input_parts, start, n, slot, step, k, in_order = 0
    cdef Py_ssize_t end = (part + 1) * n_in // shape.input_parts
    cdef real* out = <real*>space.products + part * shape.resident_blocks * n_out * width
    cdef real* copies = <real*>space.X_blocks
    cdef bint in_place = space.batch == NULL and n_out <= SPLIT_IN_PLACE_UNITS
    cdef Finish finish = LINEAR
    cdef const real* block
    copies += rank * shape.resident_blocks * shape.input_chunk * width
    if in_place:
        # Blocks whose rows are read where they lie.
        in_order = max(min(resident, call.data.first_packed - first_block), <Py_ssize_t>0)
    while input < end and not is_interrupted(call):
        k = min(shape.input_chunk, end - input)
        if in_order > 0:
            gemm_in_order(
                theta + input, n_in, n_out, k, <const real*>NULL,
                X + input * call.data.X_row + first_block * width, call.data.X_row, out, width,
                n_out * width, width, in_order, finish == ADD,
            )
        elif not in_place:
            copy_inputs(
                X, call, space, first_block, resident, input, k,
                <real*>space.examples + rank * shape.input_chunk * width, copies,
            )
        for slot in range(in_order, resident):
            start = (first_block + slot) * width
            n = min(width, space.n - start)
            block = copies + slot * shape.input_chunk * width
            step = width
            if space.batch == NULL and start >= call.data.first_packed * width:
                block = block_of_X(X, call, space, rank, start, n, input, k, &step)
            elif space.batch == NULL:
                # The next inputs are prefetched, so that memory is busy between copies too.
                gemm_ahead(
                    theta + input, n_in, 1, n_out, k, <const real*>NULL, block, step,
                    out + slot * n_out * width, width, width, finish,
                    X + (input + k) * call.data.X_row + start, call.data.X_row,
                )
                continue
            gemm(
                theta + input, n_in, 1, n_out, k, <const real*>NULL, block, step,
                out + slot * n_out * width, width, ceil_div(n, lanes) * lanes, finish,
            )
        input += k
        finish = ADD


cdef inline real* activations_of(
    const real* theta, const Shape* shape, const Workspace* space, Py_ssize_t rank
) noexcept nogil:
    """Return the address of the activations of resident blocks: in parts, those of a member."""
    cdef real* activations = <real*>space.activations
    if shape.parts > 1:
        activations += rank * shape.resident_blocks * rows_of(shape) * shape.width
    return activations


cdef inline real* panels_of(
    const real* theta, const Shape* shape, const Workspace* space, Py_ssize_t layer,
    Py_ssize_t rank, Py_ssize_t part,
) noexcept nogil:
    """Return the address of the transposed inputs of a layer, for the resident blocks.

    In parts, those of X belong to a part, so that they can be kept between iterations, and the
    others to a member.
    """
    if layer == 0:
        return <real*>space.X_panels + part * shape.X_panel_size
    return (
        <real*>space.panels + (rank * shape.panel_size if shape.parts > 1 else 0)
        + shape.panels_at[layer]
    )


cdef double wide_block(
    const real* theta, Call* call, const Job* job, const Workspace* space, Py_ssize_t first_block,
    Py_ssize_t slot, Py_ssize_t rank, Py_ssize_t part,
) noexcept nogil:
    """Run a block forward and backward; return the sum of its losses.

    The gradients of the pre-activations are left in ``activations``. The inputs of the layers are
    left in ``panels``, or their gradients if they have few outputs.
    """
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), width = shape.width, pair = 2 * lanes
    cdef Py_ssize_t start = (first_block + slot) * width, n = min(width, space.n - start)
    cdef Py_ssize_t columns = ceil_div(n, lanes) * lanes, n_in = shape.sizes[0], n_out, step = 0
    cdef Py_ssize_t layer, p, r, e
    # A forward pass needs the activations of a block no longer than the block.
    cdef real* activations = <real*>space.activations + rank * rows_of(shape) * width
    cdef real* derivatives = <real*>space.derivatives
    cdef real* panels
    cdef real* dZ
    cdef real* A
    cdef const real* X = NULL
    cdef const real* b
    cdef const real* product
    cdef double total
    cdef Blocks blocks
    if job.outputs == NULL:
        activations = activations_of(theta, shape, space, rank) + slot * rows_of(shape) * width
    dZ = activations + shape.rows_at[shape.n_layers - 1] * width
    if keeps_derivatives(shape.activation):
        derivatives += rank * rows_of(shape) * width
    if shape.input_parts == 0:
        X = block_of_X(<const real*>call.data.X, call, space, rank, start, n, 0, n_in, &step)
        if shape.input_panels and not space.X_panels_filled and job.outputs == NULL:
            panels = panels_of(theta, shape, space, 0, rank, part)
            make_panels(
                X, step, n, n_in, panels + slot * width * pair,
                shape.resident_blocks * width * pair,
            )
    else:
        n_out = shape.sizes[1]
        b = biases_of(theta, shape, 0)
        for r in range(n_out):
            A = activations + r * width
            for e in range(columns):
                A[e] = b[r] if b != NULL else 0
            for p in range(shape.input_parts):
                product = <const real*>space.products
                product += ((p * shape.resident_blocks + slot) * n_out + r) * width
                for e in range(columns):
                    A[e] += product[e]
    forward_block(theta, shape, X, step, activations, derivatives, columns)
    total = lose_block(dZ, call, job, space, rank, start, n, width, columns)
    if job.outputs != NULL:
        return total
    for layer in range(shape.n_layers - 1, 0, -1):
        A = activations + shape.rows_at[layer - 1] * width
        n_in = shape.sizes[layer]
        n_out = shape.sizes[layer + 1]
        panels = panels_of(theta, shape, space, layer, rank, part)
        if n_out <= FEW_OUTPUTS:
            # The gradient of this block, in place of its panels.
            panels += slot * n_out * n_in
            memset(panels, 0, n_out * n_in * sizeof(real))
            blocks = one_block(width, width, columns)
            gemm_dots(dZ, A, &blocks, n_out, n_in, panels, n_in, <real*>NULL, False)
        else:
            make_panels(
                A, width, n, n_in, panels + slot * width * pair,
                shape.resident_blocks * width * pair,
            )
        backward_layer(theta, shape, space, layer, dZ, A, derivatives, columns)
        dZ = A
    return total


cdef void input_panel(
    const real* X, const Call* call, const Workspace* space, Py_ssize_t start, Py_ssize_t examples,
    Py_ssize_t input, Py_ssize_t n, real* out,
) noexcept nogil:
    """Write some inputs, at most a pair of registers, of one resident example after the other."""
    cdef const Data* data = &call.data
    cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // sizeof(real)), width = call.shape.width, e, i
    cdef Py_ssize_t done = 0, in_place
    cdef const real* x
    end_panel(n, examples, out)
    if space.batch != NULL:
        for e in range(examples):
            x = X + space.batch[start + e] * data.X_column + input * data.X_row
            if data.X_row == 1 and n == pair:
                # The next panel reads what follows.
                prefetch(x + pair)
                copy_row(x, pair, out + e * pair)
            elif data.X_row == 1:
                memcpy(out + e * pair, x, n * sizeof(real))
            else:
                for i in range(n):
                    out[e * pair + i] = x[i * data.X_row]
        return
    in_place = max(min(examples, data.first_packed * width - start), <Py_ssize_t>0)
    if in_place > 0:
        transpose(X + input * data.X_row + start, data.X_row, n, in_place, out, pair)
    done = in_place
    while done < examples:
        e = min(width, examples - done)
        x = <const real*>data.packed
        x += (start + done - data.first_packed * width) * call.shape.sizes[0] + input * width
        transpose(x, width, n, e, out + done * pair, pair)
        done += width


cdef void input_gradient(
    const real* X, Call* call, const Workspace* space, const Piece* piece, Py_ssize_t first_block,
    Py_ssize_t examples, Py_ssize_t rank, bint add, real* dW, Py_ssize_t dW_step,
) noexcept nogil:
    """Compute the gradient of some columns of the first layer, over the resident examples."""
    cdef const Data* data = &call.data
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), width = shape.width, pair = 2 * lanes
    cdef Py_ssize_t n_out = shape.sizes[1], n_in = shape.sizes[0], n, i, r
    cdef Py_ssize_t start = first_block * width, in_place, rows = rows_of(shape)
    cdef const real* dZ = activations_of(X, shape, space, rank)
    cdef const real* packed
    cdef real* panel
    cdef Blocks blocks
    cdef Ahead ahead
    cdef const Ahead* next_panel
    n = piece.column_stop - piece.column
    if space.batch == NULL and n_out <= DOTS_UNITS:
        if not add:
            for r in range(n_out):
                memset(dW + r * dW_step, 0, n * sizeof(real))
        blocks.dZ_step = width
        blocks.dZ_block = rows * width
        blocks.width = width
        in_place = max(min(examples, data.first_packed * width - start), <Py_ssize_t>0)
        if in_place > 0:
            blocks.columns = ceil_div(in_place, lanes) * lanes
            blocks.A_step = data.X_row
            blocks.A_block = width
            gemm_dots(
                dZ, X + piece.column * data.X_row + start, &blocks, n_out, n, dW, dW_step,
                <real*>NULL, False,
            )
        if examples > in_place:
            blocks.columns = ceil_div(examples - in_place, lanes) * lanes
            blocks.A_step = width
            blocks.A_block = n_in * width
            packed = <const real*>data.packed + piece.column * width
            packed += (start + in_place - data.first_packed * width) * n_in
            gemm_dots(
                dZ + in_place * rows, packed, &blocks, n_out, n, dW, dW_step, <real*>NULL,
                False,
            )
        return
    panel = <real*>space.input_panels + rank * shape.resident_blocks * width * pair
    i = 0
    while i < n:
        input_panel(
            X, call, space, start, examples, piece.column + i, min(pair, n - i), panel
        )
        # The next panel is prefetched if X is read in place, and if there is one: no address is
        # computed beyond the last row of X.
        next_panel = NULL
        if space.batch == NULL and start + examples <= data.first_packed * width and i + pair < n:
            ahead.rows = X + (piece.column + i + pair) * data.X_row + start
            ahead.step = data.X_row * sizeof(real)
            ahead.n = min(pair, n - i - pair)
            next_panel = &ahead
        outer_product(
            dZ, width, rows * width, panel, 0, examples, width, n_out, min(pair, n - i), add,
            dW + i, dW_step, next_panel,
        )
        i += pair


cdef bint update_piece(
    const real* theta, const real* dW, Py_ssize_t dW_step, const real* db, Call* call,
    const Job* job, Workspace* space, const Piece* piece,
) noexcept nogil:
    """Update a piece by its gradient; return whether a parameter is not a finite number."""
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t layer = piece.layer, n_in = shape.sizes[layer], n_out = shape.sizes[layer + 1]
    cdef Py_ssize_t rows = piece.stop - piece.start, n = piece.column_stop - piece.column
    cdef Py_ssize_t at = shape.weights_at[layer] + piece.start * n_in + piece.column
    cdef bint nonfinite = update_rows(
        theta, dW, dW_step, job, at, n_in, rows, n, layer, False
    )
    if piece.column == 0 and shape.bias:
        nonfinite |= update_range(
            theta, db, job, shape.weights_at[layer] + n_out * n_in + piece.start, rows, layer, True
        )
    if has_transposed(shape, layer):
        transpose(
            <const real*>job.next_theta + at, n_in, rows, n_in,
            <real*>space.transposed + shape.transposed_at[layer] + piece.start,
            transposed_step(shape, layer, CACHE_LINE // sizeof(real)),
        )
    return nonfinite


cdef void add_blocks(
    const real* blocks, Py_ssize_t n, Py_ssize_t block_step, Py_ssize_t n_out, Py_ssize_t n_in,
    bint add, real* dW, Py_ssize_t dW_step,
) noexcept nogil:
    """Write the sum of the gradients of ``n`` blocks to ``dW``, or add it to ``dW`` if ``add``."""
    cdef Py_ssize_t r, k, slot
    for r in range(n_out):
        if not add:
            memset(dW + r * dW_step, 0, n_in * sizeof(real))
        for slot in range(n):
            for k in range(n_in):
                dW[r * dW_step + k] += blocks[slot * block_step + r * n_in + k]


cdef void piece_gradient(
    const real* theta, Call* call, const Workspace* space, const Piece* piece,
    Py_ssize_t first_block, Py_ssize_t examples, Py_ssize_t rank, Py_ssize_t part, bint add,
    real* dW, Py_ssize_t dW_step, real* db,
) noexcept nogil:
    """Compute the gradient of a piece over the resident examples, or add it if ``add``."""
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t width = shape.width, pair = 2 * (VECTOR_BYTES // sizeof(real))
    cdef Py_ssize_t n_in = shape.sizes[piece.layer], n_out = shape.sizes[piece.layer + 1]
    cdef Py_ssize_t units = piece.stop - piece.start, rows = rows_of(shape)
    cdef const real* panels = panels_of(theta, shape, space, piece.layer, rank, part)
    cdef const real* dZ = activations_of(theta, shape, space, rank)
    dZ += (shape.rows_at[piece.layer] + piece.start) * width
    if piece.layer == 0 and not shape.input_panels:
        input_gradient(
            <const real*>call.data.X, call, space, piece, first_block, examples, rank, add, dW,
            dW_step,
        )
    elif piece.layer > 0 and n_out <= FEW_OUTPUTS:
        # Such a layer may have two pieces. The gradients of a block are (units, inputs).
        add_blocks(
            panels + piece.start * n_in, ceil_div(examples, width), n_out * n_in, units, n_in, add,
            dW, dW_step,
        )
    else:
        outer_product(
            dZ, width, rows * width, panels, shape.resident_blocks * width * pair, examples, width,
            units, n_in, add, dW, dW_step, NULL,
        )
    if piece.column == 0 and shape.bias:
        sum_rows(dZ, width, rows * width, examples, width, units, add, db)


cdef void wide_pieces(
    const real* theta, Call* call, Job* job, Workspace* space, Team* team, Py_ssize_t rank,
    Py_ssize_t first_block, Py_ssize_t examples, bint last,
) noexcept nogil:
    """Compute the gradient over the resident examples, piece by piece, and update after the last.
    """
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t n_in, at, t = team_take(team), dW_step
    cdef const Piece* piece
    cdef real* gradient = <real*>space.gradient
    cdef real* dW
    cdef real* db
    if job.gradient != NULL:
        gradient = <real*>job.gradient
    while t < shape.n_pieces:
        piece = &shape.pieces[t]
        if gradient != NULL:
            n_in = shape.sizes[piece.layer]
            at = shape.weights_at[piece.layer]
            dW = gradient + at + piece.start * n_in + piece.column
            db = gradient + at + shape.sizes[piece.layer + 1] * n_in + piece.start
            dW_step = n_in
        else:
            # The gradient of a piece is complete at once, and used while it is in cache.
            dW_step = piece.column_stop - piece.column
            dW = <real*>space.piece_gradients + rank * shape.piece_size
            db = dW + (piece.stop - piece.start) * dW_step
        piece_gradient(
            theta, call, space, piece, first_block, examples, rank, 0, first_block > 0, dW,
            dW_step, db,
        )
        if last and job.rule.optimizer != NULL:
            if update_piece(
                theta, <const real*>dW, dW_step, <const real*>db, call, job, space, piece
            ):
                counter_store(&team.nonfinite, 1)
        t = team_take(team)


cdef void sum_parts(
    real* gradient, Py_ssize_t n, Py_ssize_t n_parameters, Py_ssize_t parts, real* out
) noexcept nogil:
    """Sum ``n`` numbers of each gradient over the parts; ``out`` may be those of the first part."""
    cdef Py_ssize_t k, part
    for k in range(n):
        out[k] = gradient[k] + gradient[n_parameters + k]
    for part in range(2, parts):
        for k in range(n):
            out[k] += gradient[part * n_parameters + k]


cdef bint leaves(const real* theta, Call* call, Job* job, Team* team) noexcept nogil:
    """Whether Ctrl-C ends the job before its update; called by one member only."""
    if is_interrupted(call):
        team.leaving = 1
        leave(theta, job, team)
    return team.leaving != 0


cdef void step_wide(
    const real* theta, Call* call, Job* job, Workspace* space, Team* team, Py_ssize_t rank
) noexcept nogil:
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t start = 0, resident, examples, t
    cdef Py_ssize_t work = 3 * shape.width * shape.n_parameters * team.size
    cdef bint last = False
    while not last:
        resident = min(shape.resident_blocks, space.blocks - start)
        examples = min(resident * shape.width, space.n - start * shape.width)
        last = start + resident == space.blocks
        if shape.input_parts > 0:
            t = team_take(team)
            while t < shape.input_parts and not is_interrupted(call):
                input_part(theta, call, space, t, start, resident, rank)
                look_for_signals(call, team, rank, work * resident // (3 * shape.input_parts))
                t = team_take(team)
            if team_arrive(team):
                leaves(theta, call, job, team)
                team_release(team)
            if team.leaving != 0:
                return
        t = team_take(team)
        while t < resident and not is_interrupted(call):
            space.partial_costs[t] = wide_block(theta, call, job, space, start, t, rank, 0)
            look_for_signals(call, team, rank, work)
            t = team_take(team)
        if team_arrive(team):
            if not leaves(theta, call, job, team):
                for t in range(resident):
                    job.cost += space.partial_costs[t]
                space.X_panels_filled = (
                    space.batch == NULL and space.blocks <= shape.resident_blocks
                    and job.outputs == NULL
                )
                if last and job.outputs != NULL:
                    finish_iteration(theta, call, job, space, team)
            team_release(team)
        if team.leaving != 0:
            return
        if job.outputs == NULL:
            wide_pieces(theta, call, job, space, team, rank, start, examples, last)
            if team_arrive(team):
                if last:
                    finish_iteration(theta, call, job, space, team)
                team_release(team)
        start += resident


cdef void step_wide_in_parts(
    const real* theta, Call* call, Job* job, Workspace* space, Team* team, Py_ssize_t rank
) noexcept nogil:
    """Run one iteration in parts: threads share nothing until their gradients are complete."""
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t n = shape.n_parameters, width = shape.width, n_in, at, columns
    cdef Py_ssize_t part = team_take(team), first, block, stop, resident, slot, t, r
    cdef Py_ssize_t work = 3 * width * n * team.size
    cdef real* gradient = <real*>space.gradient
    cdef real* out = gradient
    cdef real* own
    cdef const Piece* piece
    while part < shape.parts and not is_interrupted(call):
        own = gradient + part * n
        first = part * space.blocks // shape.parts
        stop = (part + 1) * space.blocks // shape.parts
        if first == stop:
            memset(own, 0, n * sizeof(real))
        block = first
        while block < stop and not is_interrupted(call):
            resident = min(shape.resident_blocks, stop - block)
            for slot in range(resident):
                space.partial_costs[block + slot] = wide_block(
                    theta, call, job, space, block, slot, rank, part
                )
                look_for_signals(call, team, rank, work)
            for t in range(shape.n_pieces):
                piece = &shape.pieces[t]
                n_in = shape.sizes[piece.layer]
                at = shape.weights_at[piece.layer]
                piece_gradient(
                    theta, call, space, piece, block,
                    min(resident * width, space.n - block * width), rank, part, block > first,
                    own + at + piece.start * n_in + piece.column, n_in,
                    own + at + shape.sizes[piece.layer + 1] * n_in + piece.start,
                )
            block += resident
        part = team_take(team)
    wait_for_parts(call, team, rank, 3 * space.n * n)
    if team_arrive(team):
        if not leaves(theta, call, job, team):
            for block in range(space.blocks):
                job.cost += space.partial_costs[block]
            space.X_panels_filled = (
                space.batch == NULL
                and ceil_div(space.blocks, shape.parts) <= shape.resident_blocks
            )
        team_release(team)
    if team.leaving != 0:
        return
    if job.gradient != NULL:
        out = <real*>job.gradient
    t = team_take(team)
    while t < shape.n_pieces:
        piece = &shape.pieces[t]
        n_in = shape.sizes[piece.layer]
        columns = piece.column_stop - piece.column
        at = shape.weights_at[piece.layer] + piece.start * n_in + piece.column
        for r in range(piece.stop - piece.start):
            slot = at + r * n_in
            sum_parts(gradient + slot, columns, n, shape.parts, out + slot)
        slot = shape.weights_at[piece.layer] + shape.sizes[piece.layer + 1] * n_in + piece.start
        if piece.column == 0 and shape.bias:
            sum_parts(gradient + slot, piece.stop - piece.start, n, shape.parts, out + slot)
        if job.rule.optimizer != NULL:
            if update_piece(
                theta, <const real*>out + at, n_in, <const real*>out + slot, call, job, space,
                piece,
            ):
                counter_store(&team.nonfinite, 1)
        t = team_take(team)
    if team_arrive(team):
        finish_iteration(theta, call, job, space, team)
        team_release(team)


# --- forward passes: narrow and wide --------------------------------------------------------------

cdef void run_forward(const real* theta, Call* call, Py_ssize_t t) noexcept nogil:
    """Take part in forward passes, in which no thread waits for another.

    A task is what has a sum of losses of its own: a part of a narrow network, a block of a wide
    one. The tasks of all networks are dealt out by number.
    """
    cdef const Shape* shape = &call.shape
    cdef Workspace* space = &call.spaces[t]
    cdef Py_ssize_t work = 3 * shape.width * shape.n_parameters * call.n_teams
    cdef Py_ssize_t task = counter_next(&call.next_group), part, block
    cdef const Job* job
    cdef double total
    next_batch(call, 0, space, sizeof(real))
    while task < call.n_groups * call.tasks and not is_interrupted(call):
        job = &call.jobs[task // call.tasks]
        part = task % call.tasks
        total = 0
        for block in range(
            part * space.blocks // call.tasks, (part + 1) * space.blocks // call.tasks
        ):
            if is_interrupted(call):
                break
            if shape.strategy == NARROW:
                total += narrow_block(
                    <const real*>job.own, call, job, space, block, 0, <real*>NULL
                )
            else:
                total += wide_block(<const real*>job.own, call, job, space, 0, block, 0, 0)
            look_for_signals(call, &call.teams[t], 0, work)
        call.task_costs[task] = total
        task = counter_next(&call.next_group)


# --- thin -----------------------------------------------------------------------------------------

cdef const real* thin_inputs(
    const real* theta, const Call* call, const Workspace* space, Py_ssize_t layer
) noexcept nogil:
    """Return the inputs of a layer, (examples, inputs)."""
    if layer > 0:
        return <const real*>space.activations + call.shape.rows_at[layer - 1] * space.n
    return <const real*>(call.data.packed if space.batch == NULL else space.examples)


cdef void thin_forward(
    const real* theta, Call* call, const Workspace* space, Py_ssize_t layer, Py_ssize_t start,
    Py_ssize_t rank,
) noexcept nogil:
    """Compute some units of a layer: (examples, units), in the last layer (units, examples)."""
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t n_in = shape.sizes[layer], n_out = shape.sizes[layer + 1], examples = space.n
    cdef Py_ssize_t units = min(<Py_ssize_t>THIN_UNITS, n_out - start), r, e, at
    cdef real* activations = <real*>space.activations + shape.rows_at[layer] * examples
    cdef real* Z = <real*>space.X_blocks + rank * THIN_UNITS * examples
    cdef real* derivatives = NULL
    cdef const real* b = biases_of(theta, shape, layer)
    cdef Blocks blocks = one_block(n_in, n_in, n_in)
    if layer == shape.n_layers - 1:
        Z = activations + start * examples
    for r in range(units):
        for e in range(examples):
            Z[r * examples + e] = b[start + r] if b != NULL else 0
    gemm_dots(
        theta + shape.weights_at[layer] + start * n_in, thin_inputs(theta, call, space, layer),
        &blocks, units, examples, Z, examples, <real*>NULL, False,
    )
    if layer == shape.n_layers - 1:
        return
    for e in range(examples):
        at = e * n_out + start
        for r in range(units):
            activations[at + r] = Z[r * examples + e]
        if keeps_derivatives(shape.activation):
            derivatives = <real*>space.derivatives + shape.rows_at[layer] * examples + at
        activate_row(
            activations + at, derivatives, units, shape.activation, <real>shape.negative_slope
        )


cdef void thin_backward(
    const real* theta, Call* call, const Job* job, const Workspace* space, Team* team,
    Py_ssize_t layer, Py_ssize_t start, Py_ssize_t rank,
) noexcept nogil:
    """Compute the gradient by the weights of some inputs, update, and overwrite these inputs.

    The inputs of the layer become the gradient of the pre-activations that they came from.
    """
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t n_in = shape.sizes[layer], n_out = shape.sizes[layer + 1], examples = space.n
    cdef Py_ssize_t n = min(<Py_ssize_t>THIN_INPUTS, n_in - start), rows, r, e
    cdef Py_ssize_t at = shape.weights_at[layer]
    # dZ is (units, examples) in the last layer and (examples, units) below.
    cdef bint last = layer == shape.n_layers - 1
    cdef Py_ssize_t dZ_unit = examples if last else 1, dZ_example = 1 if last else n_out
    cdef const real* dZ = <const real*>space.activations + shape.rows_at[layer] * examples
    cdef const real* A = thin_inputs(theta, call, space, layer) + start
    cdef const real* derivatives = NULL
    cdef real* own = <real*>A
    cdef Finish finish = RELU_BACKWARD
    cdef real* g
    cdef real* db
    cdef bint nonfinite = False
    r = 0
    while r < n_out:
        rows = min(<Py_ssize_t>THIN_ROWS, n_out - r)
        g = <real*>space.piece_gradients + rank * THIN_ROWS * THIN_INPUTS
        if job.gradient != NULL:
            g = <real*>job.gradient + at + r * n_in + start
        gemm(
            dZ + r * dZ_unit, dZ_unit, dZ_example, rows, examples, <const real*>NULL, A, n_in, g,
            n_in if job.gradient != NULL else n, n, LINEAR,
        )
        if job.gradient == NULL:
            nonfinite |= update_rows(
                theta, <const real*>g, n, job, at + r * n_in + start, n_in, rows, n, layer,
                False,
            )
        r += THIN_ROWS
    if start == 0 and shape.bias:
        at += n_out * n_in
        db = <real*>(job.gradient if job.gradient != NULL else space.gradient)
        db += at
        if last:
            for r in range(n_out):
                db[r] = row_sum(dZ + r * examples, examples)
        else:
            memset(db, 0, n_out * sizeof(real))
            for e in range(examples):
                for r in range(n_out):
                    db[r] += dZ[e * n_out + r]
        if job.gradient == NULL:
            nonfinite |= update_range(theta, <const real*>db, job, at, n_out, layer, True)
    if nonfinite:
        counter_store(&team.nonfinite, 1)
    if layer == 0:
        return
    if not is_relu(shape.activation):
        finish = MULTIPLY
        for e in range(examples):
            if keeps_derivatives(shape.activation):
                derivatives = <const real*>space.derivatives + shape.rows_at[layer - 1] * examples
                derivatives += e * n_in + start
            derivatives_of_row(
                own + e * n_in, derivatives, n, shape.activation, <real>shape.negative_slope
            )
    gemm(
        dZ, dZ_example, dZ_unit, examples, n_out, <const real*>NULL,
        theta + shape.weights_at[layer] + start, n_in, own, n_in, n, finish,
    )


cdef void step_thin(
    const real* theta, Call* call, Job* job, Workspace* space, Team* team, Py_ssize_t rank
) noexcept nogil:
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t layer, tasks, t
    if space.batch != NULL:
        if team_arrive(team):
            gather_examples(
                <const real*>call.data.X, &call.data, space, shape.sizes[0], <real*>space.examples
            )
            team_release(team)
    for layer in range(shape.n_layers):
        tasks = ceil_div(shape.sizes[layer + 1], THIN_UNITS)
        t = team_take(team)
        while t < tasks and not is_interrupted(call):
            thin_forward(theta, call, space, layer, t * THIN_UNITS, rank)
            look_for_signals(
                call, team, rank, space.n * THIN_UNITS * shape.sizes[layer] * team.size
            )
            t = team_take(team)
        if team_arrive(team):
            if not leaves(theta, call, job, team) and layer == shape.n_layers - 1:
                job.cost = lose_block(
                    <real*>space.activations + shape.rows_at[layer] * space.n, call, job, space, 0,
                    0, space.n, space.n, space.n,
                )
                if job.outputs != NULL:
                    finish_iteration(theta, call, job, space, team)
            team_release(team)
        if team.leaving != 0:
            return
    # Ctrl-C is not checked from here on: all parameters are updated, or none.
    for layer in range(shape.n_layers - 1, -1, -1):
        tasks = ceil_div(shape.sizes[layer], THIN_INPUTS)
        t = team_take(team)
        while t < tasks:
            thin_backward(theta, call, job, space, team, layer, t * THIN_INPUTS, rank)
            t = team_take(team)
        if team_arrive(team):
            if layer == 0:
                finish_iteration(theta, call, job, space, team)
            team_release(team)


# --- interleaved ----------------------------------------------------------------------------------

cdef struct Lanes:
    # The memory of the strategy. Unless stated otherwise, an entry is a register of networks.
    void* theta                  # (n_parameters,)
    void* first                  # state
    void* second
    void* settings               # numbers, (2 * n_layers, N_SETTINGS, MOST_LANES)
    void* X                      # numbers that all networks share, (n_inputs, examples)
    void* Y                      # (n_outputs, examples)
    void* activations            # (units, examples)
    void* derivatives
    void* outputs
    void* gradient               # of a tile of rows, or of all parameters
    void* nonfinite              # (1,)
    double* costs
    Py_ssize_t done
    bint alive[MOST_LANES]
    Py_ssize_t stop[MOST_LANES]  # iterations of each network; 0 once its results are copied
    bint repeats                 # networks that diverged run again, up to that iteration


cdef void copy_lane(real* lanes, Py_ssize_t n, Py_ssize_t v, real* own, bint out) noexcept nogil:
    """Copy the numbers of one network out of its lane or into it."""
    cdef Py_ssize_t width = VECTOR_BYTES // sizeof(real), k
    if out:
        for k in range(n):
            own[k] = lanes[k * width + v]
    else:
        for k in range(n):
            lanes[k * width + v] = own[k]


cdef inline void zero_lane(real* lanes, Py_ssize_t n, Py_ssize_t v) noexcept nogil:
    cdef Py_ssize_t width = VECTOR_BYTES // sizeof(real), k
    for k in range(n):
        lanes[k * width + v] = 0


cdef void begin_batch(const real* theta, Call* call, Job* jobs, Workspace* space) noexcept nogil:
    """Set the batch and the settings of the next iteration."""
    cdef const Shape* shape = &call.shape
    cdef const Data* data = &call.data
    cdef Lanes* lanes = <Lanes*>space.lanes
    cdef Py_ssize_t width = VECTOR_BYTES // sizeof(real), n_in = shape.sizes[0]
    cdef Py_ssize_t n_out = shape.sizes[shape.n_layers], i, e, v, o, at, k
    cdef const real* X = <const real*>data.X
    cdef const real* Y = <const real*>data.Y
    cdef real* x = <real*>lanes.X
    cdef real* y = <real*>lanes.Y
    cdef Job* like = NULL
    if data.order != NULL or lanes.done == 0:
        next_batch(call, lanes.done, space, sizeof(real))
        for e in range(space.n):
            at = example_of(space, e)
            for i in range(n_in):
                x[i * space.n + e] = X[i * data.X_row + at * data.X_column]
            for o in range(n_out):
                fill(
                    y + (o * space.n + e) * width, Y[o * data.m + at] if Y != NULL else <real>0
                )
    for v in range(space.n_jobs):
        if not lanes.alive[v] or jobs[v].rule.optimizer == NULL:
            continue
        begin_update(&jobs[v], like, space.total)
        like = &jobs[v]
        for k in range(2 * shape.n_layers if jobs[0].n_rates > 1 else 2):
            settings_of_iteration(
                &jobs[v], k // 2, k % 2 == 1, MOST_LANES,
                <real*>lanes.settings + k * N_SETTINGS * MOST_LANES + v,
            )


cdef void load_lanes(const real* theta, Call* call, Job* jobs, Workspace* space) noexcept nogil:
    """Load the networks that still have iterations to run; the other lanes hold zeros."""
    cdef const Shape* shape = &call.shape
    cdef Lanes* lanes = <Lanes*>space.lanes
    cdef Py_ssize_t n = shape.n_parameters, v, k
    cdef Job* job
    memset(lanes.theta, 0, n * VECTOR_BYTES)
    memset(lanes.first, 0, n * VECTOR_BYTES)
    memset(lanes.second, 0, n * VECTOR_BYTES)
    memset(lanes.settings, 0, 2 * shape.n_layers * N_SETTINGS * MOST_LANES * sizeof(real))
    lanes.done = 0
    for v in range(space.n_jobs):
        lanes.alive[v] = lanes.stop[v] > 0
        if not lanes.alive[v]:
            continue
        job = &jobs[v]
        job.theta = job.own
        job.done = 0
        copy_lane(<real*>lanes.theta, n, v, <real*>job.own, False)
        if slots_of(&job.rule) > 0:
            copy_lane(<real*>lanes.first, n, v, <real*>job.state, False)
        if slots_of(&job.rule) > 1:
            copy_lane(<real*>lanes.second, n, v, <real*>job.state + n, False)
        for k in range(2 * shape.n_layers):
            fixed_settings(
                job, MOST_LANES, <real*>lanes.settings + k * N_SETTINGS * MOST_LANES + v
            )
    begin_batch(theta, call, jobs, space)


cdef void begin_interleaved(
    const real* theta, Call* call, Job* jobs, Workspace* space,
) noexcept nogil:
    cdef Lanes* lanes = <Lanes*>space.lanes
    cdef Py_ssize_t v
    lanes.repeats = False
    for v in range(space.n_jobs):
        lanes.stop[v] = jobs[v].iterations
    load_lanes(theta, call, jobs, space)


cdef void clear_lane(
    const real* theta, const Shape* shape, Lanes* lanes, Py_ssize_t v,
) noexcept nogil:
    """Fill a lane with zeros, with which it continues."""
    cdef Py_ssize_t k
    lanes.alive[v] = False
    zero_lane(<real*>lanes.theta, shape.n_parameters, v)
    zero_lane(<real*>lanes.first, shape.n_parameters, v)
    zero_lane(<real*>lanes.second, shape.n_parameters, v)
    for k in range(2 * shape.n_layers * N_SETTINGS):
        (<real*>lanes.settings)[k * MOST_LANES + v] = 0


cdef void unload_lane(
    const real* theta, const Shape* shape, Lanes* lanes, Job* job, Py_ssize_t v,
) noexcept nogil:
    """Copy the parameters and state of a network to the arrays of the caller."""
    cdef Py_ssize_t n = shape.n_parameters
    if job.rule.optimizer != NULL:
        copy_lane(<real*>lanes.theta, n, v, <real*>job.own, True)
    if slots_of(&job.rule) > 0:
        copy_lane(<real*>lanes.first, n, v, <real*>job.state, True)
    if slots_of(&job.rule) > 1:
        copy_lane(<real*>lanes.second, n, v, <real*>job.state + n, True)
    clear_lane(theta, shape, lanes, v)
    lanes.stop[v] = 0


cdef void forward_lanes(
    const real* theta, const Shape* shape, const Workspace* space,
) noexcept nogil:
    cdef Lanes* lanes = <Lanes*>space.lanes
    cdef Py_ssize_t width = VECTOR_BYTES // sizeof(real), examples = space.n, layer, n_in, n_out
    cdef Py_ssize_t at
    cdef const real* W
    cdef const real* A = <const real*>lanes.X
    cdef real* Z
    cdef real* derivatives = NULL
    for layer in range(shape.n_layers):
        n_in = shape.sizes[layer]
        n_out = shape.sizes[layer + 1]
        W = theta + shape.weights_at[layer] * width
        at = shape.rows_at[layer] * examples * width
        Z = <real*>lanes.activations + at
        gemm_lanes(
            W, n_in * width, width, n_out, n_in,
            W + n_out * n_in * width if shape.bias else NULL, A,
            examples if layer == 0 else examples * width, 1 if layer == 0 else width, Z,
            examples * width, examples, layer == 0,
        )
        if layer < shape.n_layers - 1:
            if keeps_derivatives(shape.activation):
                derivatives = <real*>lanes.derivatives + at
            activate_row(
                Z, derivatives, n_out * examples * width, shape.activation,
                <real>shape.negative_slope,
            )
        A = Z


cdef void backward_lanes(
    real* theta, const Shape* shape, const Job* job, const Workspace* space, real* gradient
) noexcept nogil:
    """Update all parameters, or write the gradient where ``gradient`` is not NULL."""
    cdef Lanes* lanes = <Lanes*>space.lanes
    cdef Py_ssize_t width = VECTOR_BYTES // sizeof(real), examples = space.n, layer, n_in, n_out
    cdef Py_ssize_t at, r, k, rows, row = examples * width
    cdef real* dZ
    cdef real* A
    cdef real* dA = <real*>lanes.outputs
    cdef real* g
    cdef const real* derivatives
    cdef const real* settings = <const real*>lanes.settings
    for layer in range(shape.n_layers - 1, -1, -1):
        n_in = shape.sizes[layer]
        n_out = shape.sizes[layer + 1]
        at = shape.weights_at[layer] * width
        dZ = <real*>lanes.activations + shape.rows_at[layer] * row
        A = <real*>lanes.X
        if layer > 0:
            A = <real*>lanes.activations + shape.rows_at[layer - 1] * row
        if job.n_rates > 1:
            settings = <const real*>lanes.settings + 2 * layer * N_SETTINGS * MOST_LANES
        if layer > 0:
            # This reads the weights, so it comes before their update.
            gemm_lanes(
                <const real*>theta + at, width, n_in * width, n_in, n_out, <const real*>NULL, dZ,
                row, width, dA, row, examples, False,
            )
        r = 0
        if examples == 1 and gradient == NULL:
            # No sums: not writing the gradient to memory saves a third of the time.
            update_lanes(
                job.rule.optimizer, BY_SCALARS if layer == 0 else BY_LANES, n_out, n_in,
                theta + at, <const real*>A, <const real*>dZ, settings, <real*>lanes.nonfinite,
                <real*>lanes.first + at, <real*>lanes.second + at,
            )
            r = n_out
        while r < n_out:
            rows = min(<Py_ssize_t>ROWS, n_out - r)
            g = <real*>lanes.gradient if gradient == NULL else gradient + at + r * n_in * width
            gemm_lanes(
                <const real*>dZ + r * row, row, width, rows, examples, <const real*>NULL, A,
                1 if layer == 0 else width, examples if layer == 0 else row, g, n_in * width, n_in,
                layer == 0,
            )
            if gradient == NULL:
                k = at + r * n_in * width
                update_lanes(
                    job.rule.optimizer, WHOLE, 1, rows * n_in, theta + k, <const real*>g,
                    <const real*>NULL, settings, <real*>lanes.nonfinite, <real*>lanes.first + k,
                    <real*>lanes.second + k,
                )
            r += ROWS
        if shape.bias:
            k = at + n_out * n_in * width
            g = <real*>lanes.gradient if gradient == NULL else gradient + k
            for r in range(n_out):
                copy(g + r * width, dZ + r * row)
                for rows in range(1, examples):
                    add(g + r * width, dZ + r * row + rows * width)
            if gradient == NULL:
                update_lanes(
                    job.rule.optimizer, WHOLE, 1, n_out, theta + k, <const real*>g,
                    <const real*>NULL, settings + N_SETTINGS * MOST_LANES,
                    <real*>lanes.nonfinite, <real*>lanes.first + k, <real*>lanes.second + k,
                )
        if layer == 0:
            return
        derivatives = <const real*>lanes.derivatives
        if keeps_derivatives(shape.activation):
            derivatives += shape.rows_at[layer - 1] * row
        derivatives_of_row(A, derivatives, n_in * row, shape.activation, <real>shape.negative_slope)
        for k in range(n_in * row):
            A[k] *= dA[k]


cdef void step_interleaved(
    const real* theta, Call* call, Job* jobs, Workspace* space, Team* team, Py_ssize_t rank
) noexcept nogil:
    """Run one iteration of a register of networks, which are updated in place.

    The arrays of the caller are written when a network is done. A network whose update is not
    finite is run again up to that iteration. This saves a second copy of the parameters, with which
    they would not fit into the nearest cache.
    """
    cdef const Shape* shape = &call.shape
    cdef Lanes* lanes = <Lanes*>space.lanes
    cdef Py_ssize_t width = VECTOR_BYTES // sizeof(real), n = shape.n_parameters, v, k, o
    cdef Py_ssize_t n_out = shape.sizes[shape.n_layers], alive = 0
    cdef real* present = <real*>lanes.theta
    cdef real* dZ
    cdef real* outputs = NULL
    cdef real* gradient = NULL
    cdef real* nonfinite = <real*>lanes.nonfinite
    cdef double[MOST_LANES] penalties
    cdef bint updates = jobs.rule.optimizer != NULL
    forward_lanes(<const real*>present, shape, space)
    dZ = <real*>lanes.activations + shape.rows_at[shape.n_layers - 1] * space.n * width
    if jobs.outputs != NULL:
        outputs = <real*>lanes.outputs
    for v in range(width):
        lanes.costs[v] = 0
    loss_lanes(
        shape.loss, dZ, <const real*>lanes.Y, weights_of(
            <const real*>call.data.weights, call, space, 0, 0, space.n
        ), outputs, n_out, space.n, scale_of(space, <real>0), lanes.costs,
    )
    # The parameters are those of the cost until they are updated in place.
    for v in range(space.n_jobs):
        penalties[v] = penalty_of(present + v, shape, &jobs[v], width)
    fill(nonfinite, <real>0)
    if outputs == NULL:
        if not updates:
            gradient = <real*>lanes.gradient
        backward_lanes(present, shape, jobs, space, gradient)
    for v in range(space.n_jobs):
        if not lanes.alive[v]:
            continue
        if nonfinite[v] != 0:
            lanes.stop[v] = lanes.done
            clear_lane(<const real*>present, shape, lanes, v)
            continue
        jobs[v].costs[lanes.done] = lanes.costs[v] / space.total if space.total > 0 else 0
        jobs[v].costs[lanes.done] += penalties[v]
        jobs[v].done += 1
        if outputs != NULL:
            for o in range(n_out):
                for k in range(space.n):
                    (<real*>jobs[v].outputs)[
                        o * jobs[v].outputs_row + k * jobs[v].outputs_column
                    ] = outputs[(o * space.n + k) * width + v]
        elif not updates:
            copy_lane(gradient, n, v, <real*>jobs[v].gradient, True)
        if jobs[v].done == lanes.stop[v]:
            unload_lane(<const real*>present, shape, lanes, &jobs[v], v)
        else:
            alive += 1
    lanes.done += 1
    look_for_signals(call, team, rank, 3 * space.n * n * width)
    if alive > 0 and (lanes.repeats or not is_interrupted(call)):
        begin_batch(theta, call, jobs, space)
        return
    team.leaving = 1
    for v in range(space.n_jobs):
        if lanes.alive[v]:
            unload_lane(<const real*>present, shape, lanes, &jobs[v], v)
        elif lanes.stop[v] > 0:
            team.leaving = 0
    if team.leaving == 0:
        lanes.repeats = True
        load_lanes(theta, call, jobs, space)
