# The structs of a descent, and the loop over its jobs.
#
# - Shape: the network, and how its batches are cut. Lives as long as a call.
# - Data: the examples. Lives as long as a call.
# - Job: one network: its parameters, optimiser, rates, costs. A gradient is a job without an
#   update, a forward pass a job without a gradient.
# - Workspace: scratch memory of a team, kept between the slices of a run.
# - Team (team.h): the threads that run one job together.
# - Call: the structs above, and what all teams share.
#
# ``min(n_jobs, threads)`` teams take jobs by number. The examples of a batch are cut into blocks of
# ``width`` examples; block arrays are (rows, width). The strategy that computes the gradients, the
# cuts of a batch and the order of every sum depend on network and batch only: the results are the
# same bits for any number of threads and in any stack.
#
# Pointers to numbers are void in the structs. A function that has no other argument of the dtype
# takes ``theta`` for it.

cdef enum:
    # The most bytes of scratch for one block of a narrow network. This is more than a first-level
    # cache holds, but longer blocks need fewer sums across lanes: 24 KiB were 10 to 40 % slower,
    # 160 KiB no faster.
    BLOCK_BYTES = 64 * 1024
    # The inputs of a block may take this much of the second-level cache: if they had to fit into
    # BLOCK_BYTES, many inputs would mean short blocks.
    INPUT_BYTES = 640 * 1024
    INPUT_EXAMPLES = 256
    # Networks with at least this many parameters are wide; the best limit varied from 700 to 2,200.
    WIDE_PARAMETERS = 1536
    # A first layer of up to this many units does not count: its time is that of reading X, which a
    # narrow network reads once per iteration and a wide one twice.
    FEW_UNITS = 4
    # In a wide network, the bytes of a row of one block, and of all resident blocks; a quarter more
    # if that saves a round (see count_resident).
    WIDE_BYTES = 256
    RESIDENT_BYTES = 2048
    # With at least this many inputs, the products of the first layer are split along the inputs: a
    # block of all inputs would not fit into the second-level cache.
    SPLIT_INPUTS = 2048
    INPUT_PARTS = 8
    # The least inputs that are copied at once. With fewer than RESIDENT_BYTES of examples there are
    # more: as many as take the same memory.
    INPUT_CHUNK = 128
    # First layers of up to this many units read X in place, row by row. Layers of more units copy a
    # block, which every tile of ROWS units would otherwise read again with long strides.
    IN_PLACE_UNITS = 12
    # The same limit if products are split. It is lower, because a copy is then made along all
    # resident blocks, in the order of memory.
    SPLIT_IN_PLACE_UNITS = 8
    # Up to this many units, the gradient of the first layer is made of dot products along the
    # examples of X in place. For more units, transposing X is faster.
    DOTS_UNITS = 32
    # In a wide network, the gradient of a layer of up to this many units is made of dot products in
    # each block: transposing the inputs of the layer takes longer than they do.
    FEW_OUTPUTS = 2
    # X is packed into blocks, once per run, if it is at most this large or not contiguous along the
    # examples.
    PACKED_BYTES = 2 * 1024 * 1024
    # The limits of the interleaved strategy in parameters, and in parameters times examples: a
    # single network uses one lane of each register only.
    INTERLEAVED_PARAMETERS = 1024
    INTERLEAVED_WORK = 8192
    # Up to this many registers of examples, a piece of the first layer has four times as many
    # inputs: long rows of weights are read faster than short ones. Iterations were up to 1.28
    # times as fast.
    FEW_EXAMPLES = 8
    # Rows of X that are prefetched ahead of a copy.
    ROWS_AHEAD = 8
    # The most parts of a batch. Each has a gradient; these are added up in order. Narrow networks
    # have parts if there is enough work; wide ones also need PART_BLOCKS blocks and at most
    # PART_BYTES of parameters. They have a part for PART_BLOCKS blocks, but at least two. Threads
    # then exchange gradients. Exchanging the activations of all examples takes longer: 20-100-1
    # with 1,000 examples took the same time with two threads as with one.
    PARTS = 8
    PART_BYTES = 512 * 1024
    PART_BLOCKS = 4
    # The least work of an iteration, in multiply-adds of registers, with which a second thread
    # helps: it gains 40 % there. A wide network without parts needs this for each hidden layer,
    # because its threads exchange the activations and the new weights of each, at about 0.1 us for
    # a cache line.
    THREAD_WORK = 1 << 17
    # Multiply-adds of a call from which on a thread is started, which takes 0.1 ms.
    START_WORK = 1 << 23
    # Rows of weights that a thread takes at once: few, so that no thread waits long for the last.
    PIECE_ROWS = 32
    # Layers of up to MANY_ROWS units have smaller pieces, of an even number, for two threads.
    MANY_ROWS = 192
    FEW_PIECE_ROWS = 16
    # A backward pass reads the weights of a layer along its units, a cache line of each at a time.
    # The lines of more units than this fill the nearest cache. Such layers have a transposed copy
    # of their weights if more than TRANSPOSED_BLOCKS blocks read it. Threads exchange the copy as
    # well as the weights: with copies of all layers, iterations took up to twice the time.
    TRANSPOSED_UNITS = 256
    TRANSPOSED_BLOCKS = 2
    # Inputs, units, and rows of weights that a thread of the thin strategy takes at once.
    THIN_INPUTS = 256
    THIN_UNITS = 64
    THIN_ROWS = 24
    # Partial sums of the squares of the weights.
    PENALTY_SUMS = 32
    # Multiply-adds between two checks for Ctrl-C: about 10 ms.
    SIGNAL_WORK = 1 << 26
    # Turns of a waiting thread between two checks. A turn may be a sleep of 0.1 ms.
    SIGNAL_TURNS = 256

cdef enum Strategy:
    NARROW
    WIDE
    THIN
    INTERLEAVED

cdef struct Piece:
    # Weights that are updated together: rows and columns of a layer. The biases of the rows belong
    # to the piece that begins at column 0.
    Py_ssize_t layer
    Py_ssize_t start
    Py_ssize_t stop
    Py_ssize_t column
    Py_ssize_t column_stop

cdef struct Shape:
    # The network.
    Py_ssize_t n_layers
    Py_ssize_t n_parameters
    Py_ssize_t* sizes            # (n_layers + 1,)
    Py_ssize_t* weights_at       # where the weights of each layer begin in theta
    Py_ssize_t* rows_at          # where the units of each layer begin in a block, (n_layers + 1,)
    bint bias
    const Activation* activation
    double negative_slope
    const Loss* loss
    # The cut.
    Strategy strategy
    Py_ssize_t width             # examples in a block
    Py_ssize_t resident_blocks   # blocks whose activations are kept at once
    Py_ssize_t input_chunk       # inputs that are copied at once, if products are split
    Py_ssize_t parts             # of a batch: some blocks each, with a gradient of their own
    bint spread                  # narrow: sums stay spread over the lanes until a part is done
    Py_ssize_t input_parts       # wide: parts of the first layer's products; 0 for none
    Py_ssize_t most_threads      # that one network can use
    Py_ssize_t n_pieces
    Piece* pieces
    Py_ssize_t piece_size        # numbers in the gradient of the largest piece, biases last
    bint input_panels            # wide: the first layer has panels too, as all others have
    Py_ssize_t* panels_at        # where the transposed inputs of each layer but the first begin
    Py_ssize_t panel_size        # numbers in the panels of all of these layers
    Py_ssize_t X_panel_size      # numbers in those of the first
    Py_ssize_t* transposed_at    # wide: where the transposed weights of each layer begin
    Py_ssize_t transposed_size   # numbers in all of them

cdef struct Data:
    const void* X                # strides in numbers
    Py_ssize_t X_row
    Py_ssize_t X_column
    const void* Y                # (n_outputs, m); NULL if no cost is wanted
    const void* weights          # (m,); NULL if all are 1
    Py_ssize_t m
    Py_ssize_t epoch             # examples in an epoch: m, or the length of a row of ``order``
    Py_ssize_t batch_size
    const Py_ssize_t* order      # (epochs, epoch); NULL for all examples at every iteration
    Py_ssize_t first             # number of the first batch in ``order``
    Py_ssize_t first_packed      # blocks from this one on lie in ``packed``, the others in X
    void* packed

cdef extern from "updates.h":
    ctypedef bint (*float_range_update)(
        long long n, const float* p, float* out, const float* g, const float* settings,
        float* first, float* second) noexcept nogil
    ctypedef bint (*double_range_update)(
        long long n, const double* p, double* out, const double* g, const double* settings,
        double* first, double* second) noexcept nogil
    ctypedef void (*float_lanes_update)(
        long long rows, long long n, float* p, const float* g, const float* d,
        const float* settings, float* nonfinite, float* first, float* second) noexcept nogil
    ctypedef void (*double_lanes_update)(
        long long rows, long long n, double* p, const double* g, const double* d,
        const double* settings, double* nonfinite, double* first, double* second) noexcept nogil
    enum:
        WHOLE
        BY_LANES
        BY_SCALARS
    ctypedef struct Optimizer:
        const char* name
        Py_ssize_t slots
        bint corrects
        float_range_update float_range
        double_range_update double_range
        float_lanes_update* float_lanes
        double_lanes_update* double_lanes

cdef struct Rule:
    const Optimizer* optimizer   # NULL if nothing is updated
    double beta1
    double beta2
    double epsilon
    double l2
    double weight_decay
    double penalty_in_cost
    bint l2_by_batch
    bint nesterov
    bint rate_in_velocity
    bint epsilon_hat

cdef struct Job:
    void* theta                  # of the current iteration: ``own`` or its alternate
    void* next_theta
    void* own                    # the caller's
    void* state                  # (slots, n_parameters); NULL without slots
    void* gradient               # where the gradient goes; NULL if it is only used
    void* outputs                # (n_outputs, m) of a forward pass; NULL otherwise
    Py_ssize_t outputs_row       # their steps
    Py_ssize_t outputs_column
    Rule rule
    Py_ssize_t n_parameters
    Py_ssize_t step              # updates before this call
    const double* rates          # (iterations, n_rates)
    Py_ssize_t rate_step         # from one iteration to the next: 0 if all have the same
    Py_ssize_t n_rates           # 1, or 2 * n_layers: weights and biases of each layer
    double* costs                # (iterations,)
    Py_ssize_t iterations
    Py_ssize_t done
    double cost                  # sum of the losses of the current iteration
    double l2                    # in the current iteration
    double correction1           # of Adam's means in the current iteration
    double correction2

cdef struct Workspace:
    # The current jobs, of which only the interleaved strategy has more than one, and their batch.
    Py_ssize_t n_jobs
    const Py_ssize_t* batch
    Py_ssize_t n
    Py_ssize_t blocks
    double total                 # of the weights
    # Memory. "each": for each member of the team.
    void* next_theta
    void* gradient               # (parts, n_parameters); NULL if only pieces are needed
    void* spread                 # each: (n_parameters,) registers, if there are many blocks
    void* piece_gradients        # each: piece_size
    void* transposed             # weights of a wide network, transposed
    void* examples               # each: one block, an example after the other
    void* X_blocks               # each: one block
    void* Y_blocks               # each
    void* weight_blocks          # each
    void* outputs                # each: the outputs of one block
    void* activations            # narrow: each; wide: of resident blocks, in parts: each
    void* derivatives            # each
    void* panels                 # wide: transposed inputs of later layers; in parts: each
    void* X_panels               # (parts,): of the first layer
    bint X_panels_filled         # they already hold the whole batch
    void* input_panels           # each: some transposed inputs of a first layer without X_panels
    void* products               # (input_parts, resident_blocks): of the first layer
    void* lanes                  # of the interleaved strategy
    double* partial_costs        # of blocks or parts
    void* zeros                  # labels if none are given

cdef struct Call:
    Shape shape
    Data data
    Job* jobs
    Py_ssize_t* groups           # (n_groups + 1,): the first job of each group
    Py_ssize_t n_groups
    counter next_group
    counter interrupted
    Py_ssize_t tasks             # of a forward pass in which no thread waits; otherwise 0
    double* task_costs           # (n_groups, tasks)
    Py_ssize_t work              # multiply-adds since the last check for Ctrl-C
    void* owner
    Py_ssize_t n_teams
    Py_ssize_t n_threads
    Team* teams
    Workspace* spaces

# --- the cut --------------------------------------------------------------------------------------

cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t rows_of(const Shape* shape) noexcept nogil:
    """Return the number of units of all layers: the rows of a block of activations."""
    return shape.rows_at[shape.n_layers]


cdef bint is_interleaved(Py_ssize_t parameters, Py_ssize_t batch, Py_ssize_t lanes) noexcept nogil:
    # More examples would not fit into LOSS_BLOCK, a register of networks for each.
    return (
        batch <= 2 * lanes and parameters <= INTERLEAVED_PARAMETERS
        and parameters * batch <= INTERLEAVED_WORK
    )


cdef Strategy strategy_of(const Shape* shape, Py_ssize_t batch, Py_ssize_t lanes) noexcept nogil:
    cdef Py_ssize_t n = shape.n_parameters
    if is_interleaved(n, batch, lanes):
        return INTERLEAVED
    if batch < lanes:
        return THIN
    if shape.sizes[1] <= FEW_UNITS and 2 * shape.sizes[0] * WIDE_BYTES <= INPUT_BYTES:
        n -= shape.sizes[0] * shape.sizes[1]
    return WIDE if n >= WIDE_PARAMETERS else NARROW


cdef inline Py_ssize_t count_parts(Py_ssize_t most) noexcept nogil:
    """Return the largest power of two up to ``most`` and ``PARTS``, but at least 2.

    With an odd number of parts, one of two threads would wait for the other.
    """
    cdef Py_ssize_t parts = 2
    while 2 * parts <= min(most, <Py_ssize_t>PARTS):
        parts *= 2
    return parts


cdef inline Py_ssize_t count_resident(Py_ssize_t blocks, Py_ssize_t most) noexcept nogil:
    """Return the number of blocks of a round: up to ``most``, or a quarter more.

    A last round of few blocks would read all weights and gradients again. All rounds have about the
    same number of blocks.
    """
    cdef Py_ssize_t rounds = ceil_div(blocks, most)
    if rounds > 1 and blocks - (rounds - 1) * most <= most // 4:
        rounds -= 1
    return ceil_div(blocks, rounds)


cdef void cut(
    Shape* shape, Py_ssize_t batch, Py_ssize_t itemsize, bint forward_only
) noexcept nogil:
    """Cut batches of up to ``batch`` examples into blocks, and the work into tasks."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // itemsize, pair = 2 * lanes
    cdef Py_ssize_t rows = rows_of(shape), n_in = shape.sizes[0], most, blocks, tasks
    cdef Py_ssize_t work = 3 * batch * shape.n_parameters // lanes, least
    batch = max(batch, 1)
    shape.strategy = strategy_of(shape, batch, lanes)
    shape.parts = 1
    shape.input_parts = 0
    shape.width = batch
    blocks = 1
    if shape.strategy == NARROW:
        most = min(INPUT_EXAMPLES, INPUT_BYTES // (n_in * itemsize))
        most = min(most, BLOCK_BYTES // (rows * itemsize))
        most = max(most, BLOCK_BYTES // ((rows + n_in) * itemsize))
        most = min(max(most // pair * pair, pair), <Py_ssize_t>LOSS_BLOCK)
        blocks = ceil_div(batch, most)
        if work >= THREAD_WORK:
            # The final sums of a part take some ten instructions per parameter. The number of
            # parts is limited so that they are at most a tenth of the work.
            shape.parts = count_parts(3 * batch // (100 * lanes))
        # Blocks of equal width, and about as many in each part.
        blocks = ceil_div(blocks, shape.parts) * shape.parts
        shape.width = ceil_div(ceil_div(batch, blocks), pair) * pair
        blocks = ceil_div(batch, shape.width)
        shape.parts = min(shape.parts, blocks)
    elif shape.strategy == WIDE:
        most = max(WIDE_BYTES // itemsize // pair * pair, pair)
        # Whole pairs of registers. Only the last block may have fewer examples.
        shape.width = min(most, ceil_div(batch, pair) * pair)
        blocks = ceil_div(batch, shape.width)
        if n_in >= SPLIT_INPUTS:
            shape.input_parts = INPUT_PARTS
    shape.resident_blocks = blocks
    if shape.strategy == WIDE and not (forward_only and shape.input_parts == 0):
        # Otherwise no block waits for others: the threads meet at the end of the batch only.
        if (
            blocks >= PART_BLOCKS and work >= THREAD_WORK and not forward_only
            and shape.input_parts == 0 and shape.n_parameters * itemsize <= PART_BYTES
        ):
            shape.parts = count_parts(blocks // PART_BLOCKS)
        # The rounds are those of a part.
        shape.resident_blocks = count_resident(
            ceil_div(blocks, shape.parts), RESIDENT_BYTES // itemsize // shape.width
        )
    # If few examples are resident, more inputs take the same memory.
    shape.input_chunk = INPUT_CHUNK * RESIDENT_BYTES // (
        shape.resident_blocks * shape.width * itemsize
    )
    shape.input_chunk = max(
        min(shape.input_chunk, ceil_div(n_in, INPUT_PARTS)), <Py_ssize_t>INPUT_CHUNK
    )
    shape.spread = shape.strategy == NARROW and blocks > 2 * shape.parts
    cut_pieces(shape, batch, lanes)
    least = THREAD_WORK
    if (
        shape.strategy == WIDE and shape.parts == 1 and shape.input_parts == 0
        and not forward_only
    ):
        least *= max(shape.n_layers - 1, <Py_ssize_t>1)
    tasks = shape.parts
    if shape.strategy == WIDE and shape.parts == 1:
        tasks = max(shape.resident_blocks, shape.n_pieces)
    elif shape.strategy == THIN:
        tasks = ceil_div(shape.n_parameters, THIN_INPUTS * THIN_UNITS)
    elif shape.strategy == INTERLEAVED:
        tasks = 1
    if forward_only:
        work //= 3
    shape.most_threads = max(tasks, 1) if work >= least else 1


cdef Py_ssize_t forward_tasks(const Shape* shape) noexcept nogil:
    """Return the number of tasks of a forward pass; 0 if it is done in the steps of a descent."""
    if shape.strategy == NARROW:
        return shape.parts
    return shape.resident_blocks if shape.strategy == WIDE and shape.input_parts == 0 else 0


cdef inline Py_ssize_t columns_of_piece(const Shape* shape, Py_ssize_t lanes) noexcept nogil:
    """Return the inputs of the first layer in a piece: pairs of registers, more for many inputs."""
    cdef Py_ssize_t pairs = shape.sizes[0] // (16 * 2 * lanes)
    return 2 * lanes * max(min(pairs, <Py_ssize_t>4 if shape.sizes[1] <= 64 else 2), 1)


cdef inline Py_ssize_t count_row_pieces(Py_ssize_t rows) noexcept nogil:
    """Return the number of pieces of a layer that is cut along its units."""
    if rows > MANY_ROWS:
        return ceil_div(rows, PIECE_ROWS)
    return min(2 * ceil_div(rows, 2 * FEW_PIECE_ROWS), rows)


cdef inline bint is_transposed(
    const Shape* shape, Py_ssize_t layer, Py_ssize_t batch
) noexcept nogil:
    return (
        layer > 0 and shape.sizes[layer + 1] > TRANSPOSED_UNITS
        and batch > TRANSPOSED_BLOCKS * shape.width
    )


cdef inline bint has_transposed(const Shape* shape, Py_ssize_t layer) noexcept nogil:
    return shape.strategy == WIDE and shape.transposed_at[layer + 1] > shape.transposed_at[layer]


cdef inline Py_ssize_t transposed_step(
    const Shape* shape, Py_ssize_t layer, Py_ssize_t line
) noexcept nogil:
    """Return the numbers from one row of transposed weights to the next: whole cache lines."""
    return ceil_div(shape.sizes[layer + 1], line) * line


cdef Py_ssize_t count_pieces(const Shape* shape, Py_ssize_t lanes) noexcept nogil:
    """Return an upper bound of the number of pieces, for any number of examples."""
    cdef Py_ssize_t layer, n = ceil_div(shape.sizes[0], columns_of_piece(shape, lanes))
    for layer in range(shape.n_layers):
        n += count_row_pieces(shape.sizes[layer + 1])
    return n


cdef void cut_pieces(Shape* shape, Py_ssize_t batch, Py_ssize_t lanes) noexcept nogil:
    """Cut layers along their units; a first layer of many inputs or few units along its inputs."""
    cdef Py_ssize_t layer, k, n, n_in, n_out, unit, columns = columns_of_piece(shape, lanes)
    cdef Py_ssize_t panels = 0, transposed = 0, pair = 2 * lanes, size
    cdef Py_ssize_t line = lanes * CACHE_LINE // VECTOR_BYTES
    cdef Piece* piece = shape.pieces
    cdef bint by_columns
    if shape.resident_blocks * shape.width <= FEW_EXAMPLES * lanes:
        columns *= 4
    shape.n_pieces = 0
    shape.piece_size = 0
    shape.X_panel_size = 0
    if shape.strategy != WIDE:
        return
    shape.input_panels = shape.input_parts == 0 and shape.sizes[1] > DOTS_UNITS
    for layer in range(shape.n_layers):
        n_in = shape.sizes[layer]
        n_out = shape.sizes[layer + 1]
        shape.transposed_at[layer] = transposed
        unit = 1
        if is_transposed(shape, layer, batch):
            transposed += n_in * transposed_step(shape, layer, line)
            # No two threads write into one cache line of the transposed weights.
            unit = line
        by_columns = layer == 0 and not shape.input_panels
        n = ceil_div(n_in, columns) if by_columns else count_row_pieces(n_out)
        for k in range(n):
            piece.layer = layer
            piece.start = 0
            piece.stop = n_out
            piece.column = k * columns if by_columns else 0
            piece.column_stop = min((k + 1) * columns, n_in) if by_columns else n_in
            if not by_columns:
                piece.start = k * ceil_div(n_out, unit) // n * unit
                piece.stop = min((k + 1) * ceil_div(n_out, unit) // n * unit, n_out)
            shape.piece_size = max(
                shape.piece_size,
                (piece.stop - piece.start) * (piece.column_stop - piece.column + 1),
            )
            piece += 1
        shape.n_pieces += n
        shape.panels_at[layer] = panels
        size = ceil_div(n_in, pair) * pair * shape.resident_blocks * shape.width
        if layer > 0:
            panels += size
        elif shape.input_panels:
            shape.X_panel_size = size
    shape.panel_size = panels
    shape.transposed_at[shape.n_layers] = transposed
    shape.transposed_size = transposed


# --- batches and blocks of examples ---------------------------------------------------------------

cdef void next_batch(
    const Call* call, Py_ssize_t done, Workspace* space, size_t itemsize,
) noexcept nogil:
    """Set the batch of the next iteration; ``done`` iterations of this call precede it."""
    cdef const Data* data = &call.data
    cdef Py_ssize_t batches, e, b, k
    if data.order == NULL:
        space.n = data.m
        space.batch = NULL
    else:
        batches = ceil_div(data.epoch, data.batch_size)
        b = data.first + done
        k = b % batches * data.batch_size
        space.batch = data.order + b // batches * data.epoch + k
        space.n = min(data.batch_size, data.epoch - k)
    space.blocks = ceil_div(space.n, call.shape.width)
    if data.weights != NULL and (data.order != NULL or done == 0):
        space.total = 0
        for e in range(space.n):
            b = e if space.batch == NULL else space.batch[e]
            if itemsize == sizeof(float):
                space.total += (<const float*>data.weights)[b]
            else:
                space.total += (<const double*>data.weights)[b]
    elif data.weights == NULL:
        space.total = space.n


cdef inline Py_ssize_t example_of(const Workspace* space, Py_ssize_t e) noexcept nogil:
    """Return the index in X of example ``e`` of the batch."""
    return e if space.batch == NULL else space.batch[e]


cdef inline real scale_of(const Workspace* space, real unused) noexcept nogil:
    """Return the factor of the gradients of the losses."""
    return <real>(1 / space.total if space.total > 0 else 0)


cdef void gather(
    const real* X, const Data* data, const Workspace* space, Py_ssize_t start, Py_ssize_t n,
    Py_ssize_t width, Py_ssize_t input, Py_ssize_t n_inputs, real* examples, real* out,
) noexcept nogil:
    """Copy some inputs of some examples to ``out``, (n_inputs, width).

    The last example is repeated up to the width. A copy overflows only if the original does, and
    brings in no NaN. Contiguous examples are copied to ``examples`` first, because transposing them
    is faster than scattering numbers.
    """
    cdef Py_ssize_t e, i, last = start + n - 1
    if data.X_row == 1 and space.batch == NULL and n == width:
        transpose(X + start * data.X_column + input, data.X_column, width, n_inputs, out, width)
        return
    if data.X_row == 1:
        for e in range(width):
            memcpy(
                examples + e * n_inputs,
                X + example_of(space, min(start + e, last)) * data.X_column + input,
                n_inputs * sizeof(real),
            )
        transpose(examples, n_inputs, width, n_inputs, out, width)
        return
    X += input * data.X_row
    for i in range(n_inputs):
        if data.X_column == 1 and space.batch == NULL:
            # Rows are too short for the hardware prefetcher.
            e = 0
            while e < n:
                prefetch(X + ROWS_AHEAD * data.X_row + start + e)
                e += 64 // <Py_ssize_t>sizeof(real)
            memcpy(out + i * width, X + start, n * sizeof(real))
            for e in range(n, width):
                out[i * width + e] = out[i * width + n - 1]
        else:
            for e in range(width):
                out[i * width + e] = X[example_of(space, min(start + e, last)) * data.X_column]
        X += data.X_row


cdef void pack(const real* theta, Call* call) noexcept nogil:
    """Copy what cannot be read in place, once for a run.

    This is all of a small or strided X; otherwise the last block, if it is not full. The thin
    strategy needs the examples one after the other.
    """
    cdef Data* data = &call.data
    cdef const Shape* shape = &call.shape
    cdef Workspace* space = &call.spaces[0]
    cdef Py_ssize_t width = shape.width, n_in = shape.sizes[0], block, blocks, input, n
    cdef const real* X = <const real*>data.X
    if data.order != NULL or shape.strategy == INTERLEAVED:
        return
    next_batch(call, 0, space, sizeof(real))
    if shape.strategy == THIN:
        gather_examples(X, data, space, n_in, <real*>data.packed)
        return
    blocks = ceil_div(data.m, width)
    for block in range(data.first_packed, blocks):
        input = 0
        while input < n_in:
            n = min(most_copied(shape), n_in - input)
            gather(
                X, data, space, block * width, min(width, data.m - block * width), width, input, n,
                <real*>space.examples,
                <real*>data.packed + ((block - data.first_packed) * n_in + input) * width,
            )
            input += n


cdef void gather_examples(
    const real* X, const Data* data, const Workspace* space, Py_ssize_t n_in, real* out
) noexcept nogil:
    """Copy the examples of the batch to ``out``, one after the other."""
    cdef Py_ssize_t e, i
    cdef const real* x
    for e in range(space.n):
        x = X + example_of(space, e) * data.X_column
        if data.X_row == 1:
            memcpy(out + e * n_in, x, n_in * sizeof(real))
        else:
            for i in range(n_in):
                out[e * n_in + i] = x[i * data.X_row]


cdef const real* block_of_X(
    const real* X, const Call* call, const Workspace* space, Py_ssize_t rank, Py_ssize_t start,
    Py_ssize_t n, Py_ssize_t input, Py_ssize_t n_inputs, Py_ssize_t* step,
) noexcept nogil:
    """Return the address of some inputs of a block, rows ``step`` apart: X, packed, or a copy."""
    cdef const Data* data = &call.data
    cdef const Shape* shape = &call.shape
    cdef Py_ssize_t width = shape.width, n_in = shape.sizes[0]
    cdef real* copy
    step[0] = width
    if space.batch == NULL:
        if start >= data.first_packed * width:
            return (
                <const real*>data.packed
                + (start - data.first_packed * width) * n_in + input * width
            )
        if shape.sizes[1] <= IN_PLACE_UNITS and data.X_column == 1 and n == width:
            step[0] = data.X_row
            return X + start + input * data.X_row
    copy = <real*>space.X_blocks + rank * most_copied(shape) * width
    gather(
        X, data, space, start, n, width, input, n_inputs,
        <real*>space.examples + rank * most_copied(shape) * width, copy,
    )
    return copy


cdef inline Py_ssize_t most_copied(const Shape* shape) noexcept nogil:
    """Return the number of inputs that are copied at once."""
    return shape.input_chunk if shape.input_parts > 0 else shape.sizes[0]


cdef const real* labels_of(
    const real* Y, const Call* call, const Workspace* space, Py_ssize_t rank, Py_ssize_t start,
    Py_ssize_t n, Py_ssize_t* step,
) noexcept nogil:
    """Return the address of the labels of a block, rows ``step`` apart."""
    cdef Py_ssize_t n_out = call.shape.sizes[call.shape.n_layers], width = call.shape.width, o, e
    cdef real* copy
    if Y == NULL:
        step[0] = 0
        return <const real*>space.zeros
    if space.batch == NULL:
        step[0] = call.data.m
        return Y + start
    step[0] = width
    copy = <real*>space.Y_blocks + rank * n_out * width
    for o in range(n_out):
        for e in range(n):
            copy[o * width + e] = Y[o * call.data.m + space.batch[start + e]]
    return copy


cdef const real* weights_of(
    const real* weights, const Call* call, const Workspace* space, Py_ssize_t rank,
    Py_ssize_t start, Py_ssize_t n,
) noexcept nogil:
    """Return the weights of the examples of a block; NULL if all are 1."""
    cdef real* copy
    cdef Py_ssize_t e
    if weights == NULL or space.batch == NULL:
        return weights + start if weights != NULL else weights
    copy = <real*>space.weight_blocks + rank * call.shape.width
    for e in range(n):
        copy[e] = weights[space.batch[start + e]]
    return copy


# --- the loop over jobs ---------------------------------------------------------------------------

cdef void look_for_signals(
    Call* call, const Team* team, Py_ssize_t rank, Py_ssize_t work,
) noexcept nogil:
    """Check for Ctrl-C in the calling thread, every SIGNAL_WORK multiply-adds."""
    if team != call.teams or rank > 0:
        return
    call.work += work
    if call.work > SIGNAL_WORK:
        call.work = 0
        with gil:
            (<Descent>call.owner).look()


cdef inline bint is_interrupted(Call* call) noexcept nogil:
    return counter_load(&call.interrupted) != 0


cdef void wait_for_parts(
    Call* call, Team* team, Py_ssize_t rank, Py_ssize_t work,
) noexcept nogil:
    """Check for Ctrl-C in the calling thread until the others have done their parts.

    ``work`` is that of all parts, which may take seconds.
    """
    cdef Wait wait
    wait.turns = wait.since = 0
    if team != call.teams or rank > 0 or work <= SIGNAL_WORK:
        return
    while not is_interrupted(call) and team_waits(team, &wait):
        if wait.turns % SIGNAL_TURNS == 0:
            with gil:
                (<Descent>call.owner).look()


cdef void begin_job(const real* theta, Call* call, Job* job, Workspace* space) noexcept nogil:
    """Prepare a job; called by one member only."""
    job.theta = job.own
    job.next_theta = space.next_theta
    job.done = 0
    job.cost = 0
    next_batch(call, 0, space, sizeof(real))
    begin_update(job, NULL, space.total)
    if call.shape.strategy == WIDE and job.outputs == NULL:
        transpose_weights(<const real*>job.theta, &call.shape, space)


cdef double penalty_of(
    const real* theta, const Shape* shape, const Job* job, Py_ssize_t step,
) noexcept nogil:
    """Return ``l2 / 2 * sum(W ** 2)`` where costs include it; parameters are ``step`` apart."""
    cdef Py_ssize_t layer, k, v, n
    cdef const real* w
    cdef double total = 0
    # A single sum would wait for each of its additions.
    cdef double[PENALTY_SUMS] sums
    if job.rule.penalty_in_cost == 0 or job.l2 == 0:
        return 0
    for v in range(PENALTY_SUMS):
        sums[v] = 0
    for layer in range(shape.n_layers):
        w = theta + shape.weights_at[layer] * step
        n = shape.sizes[layer] * shape.sizes[layer + 1]
        k = 0
        if step == 1:
            while k + PENALTY_SUMS <= n:
                for v in range(PENALTY_SUMS):
                    sums[v] += <double>w[k + v] * w[k + v]
                k += PENALTY_SUMS
        while k < n:
            total += <double>w[k * step] * w[k * step]
            k += 1
    for v in range(PENALTY_SUMS):
        total += sums[v]
    return job.rule.penalty_in_cost * job.l2 / 2 * total


cdef void finish_iteration(
    const real* theta, Call* call, Job* job, Workspace* space, Team* team,
) noexcept nogil:
    """Record the cost and replace theta by the next one; called by one member only."""
    cdef void* spare
    if counter_load(&team.nonfinite) != 0:
        counter_store(&team.nonfinite, 0)
        team.leaving = 1
    else:
        job.costs[job.done] = job.cost / space.total if space.total > 0 else 0
        job.costs[job.done] += penalty_of(theta, &call.shape, job, 1)
        job.cost = 0
        job.done += 1
        if job.rule.optimizer != NULL:
            spare = job.theta
            job.theta = job.next_theta
            job.next_theta = spare
        if job.done == job.iterations or is_interrupted(call):
            team.leaving = 1
        else:
            next_batch(call, job.done, space, sizeof(real))
            begin_update(job, NULL, space.total)
    leave(theta, job, team)


cdef void leave(const real* theta, Job* job, Team* team) noexcept nogil:
    """At the end of a job, copy its parameters to the array of the caller."""
    if team.leaving != 0 and job.theta != job.own:
        memcpy(job.own, job.theta, job.n_parameters * sizeof(real))
        job.theta = job.own


cdef void run_jobs(const real* theta, Call* call, Py_ssize_t t, Py_ssize_t rank) noexcept nogil:
    """Take part in the jobs of team ``t``; called by each member."""
    cdef Team* team = &call.teams[t]
    cdef Workspace* space = &call.spaces[t]
    cdef Job* job
    cdef Py_ssize_t g
    while True:
        if team_arrive(team):
            team.leaving = 0
            team.job = call.n_groups if is_interrupted(call) else counter_next(&call.next_group)
            if team.job < call.n_groups:
                g = team.job
                space.n_jobs = call.groups[g + 1] - call.groups[g]
                job = &call.jobs[call.groups[g]]
                if call.shape.strategy == INTERLEAVED:
                    begin_interleaved(theta, call, job, space)
                else:
                    begin_job(theta, call, job, space)
            team_release(team)
        if team.job >= call.n_groups:
            return
        job = &call.jobs[call.groups[team.job]]
        while team.leaving == 0:
            if call.shape.strategy == NARROW:
                step_narrow(<const real*>job.theta, call, job, space, team, rank)
            elif call.shape.strategy == WIDE and call.shape.parts > 1:
                step_wide_in_parts(
                    <const real*>job.theta, call, job, space, team, rank
                )
            elif call.shape.strategy == WIDE:
                step_wide(<const real*>job.theta, call, job, space, team, rank)
            elif call.shape.strategy == THIN:
                step_thin(<const real*>job.theta, call, job, space, team, rank)
            else:
                step_interleaved(<const real*>job.theta, call, job, space, team, rank)
