"""Dense layers: forward, backward, losses, updates, and the fused descent loop.

Layout: examples are the contiguous axis. ``A`` is (n_in, m), ``W`` (n_out, n_in), ``b`` (n_out, 1).

The examples of a batch are cut into blocks, and a block goes forward through every layer and back
again before the next one starts, so that its activations stay in cache. On the way back the
gradient at a layer overwrites that layer's activations. What happens to the gradients by the
parameters depends on the network:

- *narrow*: blocks are so small that they stay in the nearest caches, and each adds its share to
  the gradient at once. The blocks form a fixed number of parts with a gradient each, which are
  added up in order.
- *wide*: a gradient as large as the weights would have to be read and written for every block. So
  some blocks keep what the products need, and when all are back, every row of weights gets its
  whole gradient at once, and its update while that is in cache.
- *BLAS*: the largest products are left to NumPy's BLAS and its own threads, a layer at a time, with
  all that is elementwise in one pass between them.

The cut depends on network and batch alone, and every sum has a fixed order: how many threads take
part changes no bit. They take blocks, then rows, and meet in between; see ``team.h``.

The next ``theta`` is written beside the present one and takes its place if all its numbers are
finite.

The callers have checked everything: no kernel validates. Twins with the same names and arguments
are in ``fastinit/reference.py``.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, pow, sqrt
from libc.math cimport log as c_log
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import _thread
import os
from itertools import pairwise

import numpy as np

cdef extern from "lanes.h":
    enum:
        VECTOR_BYTES
        MOST_LANES
    void float_fill(float* out, float w) noexcept nogil
    void double_fill(double* out, double w) noexcept nogil
    void float_add(float* out, const float* a) noexcept nogil
    void double_add(double* out, const double* a) noexcept nogil
    void float_copy(float* out, const float* a) noexcept nogil
    void double_copy(double* out, const double* a) noexcept nogil
    void float_multiply(float* out, const float* a) noexcept nogil
    void double_multiply(double* out, const double* a) noexcept nogil
    void float_multiply_add(float* out, const float* a, float w) noexcept nogil
    void double_multiply_add(double* out, const double* a, double w) noexcept nogil
    void float_multiply_add_lanes(float* out, const float* a, const float* b) noexcept nogil
    void double_multiply_add_lanes(double* out, const double* a, const double* b) noexcept nogil
    void float_relu(float* out, const float* z) noexcept nogil
    void double_relu(double* out, const double* z) noexcept nogil
    void float_relu_backward(float* a, const float* da) noexcept nogil
    void double_relu_backward(double* a, const double* da) noexcept nogil
    void float_transpose(
        float* out, Py_ssize_t out_step, const float* a, Py_ssize_t a_step) noexcept nogil
    void double_transpose(
        double* out, Py_ssize_t out_step, const double* a, Py_ssize_t a_step) noexcept nogil
    float float_sum(const float* a) noexcept nogil
    double double_sum(const double* a) noexcept nogil
    int32_t float_bits(float x) noexcept nogil
    int64_t double_bits(double x) noexcept nogil
    float float_from_bits(int32_t bits) noexcept nogil
    double double_from_bits(int64_t bits) noexcept nogil

cdef extern from "team.h":
    ctypedef struct Team:
        long size
        long task
        long arrived
        long phase
    long team_take(Team* team) noexcept nogil
    bint team_arrive(Team* team) noexcept nogil
    void team_release(Team* team) noexcept nogil
    void team_dismiss(Team* team) noexcept nogil

ctypedef fused real:
    float
    double

cdef enum:
    # 6 rows x 2 registers of sums, 2 of activations and 1 of a weight: 15 of the 16 registers that
    # AVX2 and SSE2 have. With 512 bits twice as many are there, but taller tiles gained nothing.
    ROWS = 6
    # The bytes of scratch that one block of a narrow network may take. It is more than a first-
    # level cache holds, but the sums across registers that end every block's gradients count less:
    # 24 KiB were 10 to 40 % slower, 160 KiB no faster.
    BLOCK_BYTES = 64 * 1024
    # From so many parameters on a network is wide: measured between 700 and 2,200.
    WIDE_PARAMETERS = 1536
    # From so many on its products are NumPy's BLAS's: on two cores they take 10 % longer than ours
    # at 670,000 and 10 % less at 2 million. Examples are then taken so many at a time.
    BLAS_PARAMETERS = 1 << 20
    BLAS_EXAMPLES = 1024
    # In a wide network, the bytes of a row of one block, and of all blocks that are kept.
    WIDE_BYTES = 256
    SUPER_BYTES = 2048
    # Into so many parts the blocks of a batch are cut, where the work is worth it.
    PARTS = 8
    # Multiply-adds of an iteration from which on a second thread helps. A wide network has no
    # gradients to add up: two cores that are idle gain 25 % at 1.3 million.
    NARROW_THREAD_WORK = 1 << 21
    WIDE_THREAD_WORK = 1 << 20
    # Rows of weights that a thread takes at once: few, so that the last piece keeps nobody waiting.
    PIECE_ROWS = 24
    # How many multiply-adds pass between two looks for Ctrl-C: about 10 ms.
    SIGNAL_WORK = 1 << 26
    # Examples per product of probabilities: the product of so many mantissas below 2 is finite.
    LOSS_WIDTH = 64
    LOSS_BLOCK = 512

cdef enum Finish:
    LINEAR
    RELU
    RELU_BACKWARD
    MULTIPLY

include "products.pxi"
include "functions.pxi"
include "losses.pxi"


# --- the plan of a descent ------------------------------------------------------------------------

cdef enum Kind:
    NO_UPDATE
    GRADIENT_DESCENT
    MOMENTUM
    NESTEROV
    ADAM

cdef dict RULES = {
    "gradient_descent": GRADIENT_DESCENT, "momentum": MOMENTUM, "nesterov": NESTEROV, "adam": ADAM,
}

cdef struct Piece:
    # Rows of weights, and their biases, that are updated together; layer -1 is the whole vector.
    Py_ssize_t layer
    Py_ssize_t start
    Py_ssize_t stop

cdef struct Plan:
    # The network.
    Py_ssize_t n_layers
    Py_ssize_t n_parameters
    const Py_ssize_t* sizes
    Py_ssize_t* weights_at       # where the weights of each layer begin in theta
    Py_ssize_t* rows_at          # where the rows of each layer begin in a block
    Py_ssize_t* panels_at        # where the transposed inputs of each layer begin
    Hidden hidden
    double slope
    Loss loss
    # The optimiser.
    Kind rule
    double beta1
    double beta2
    double epsilon
    double l2
    double weight_decay
    # The data, strides in numbers.
    const void* X
    Py_ssize_t X_row
    Py_ssize_t X_column
    const void* Y
    const void* weights          # of the examples; NULL where all are 1
    Py_ssize_t m
    Py_ssize_t batch_size
    # The course.
    const Py_ssize_t* order      # (epochs, m); NULL for all examples at every iteration
    Py_ssize_t first
    Py_ssize_t step
    const double* rates
    double* costs
    Py_ssize_t iterations
    Py_ssize_t done
    # The present batch.
    const Py_ssize_t* batch
    Py_ssize_t n
    double total                 # of the weights
    double cost
    bint packed                  # its blocks hold the batch already
    bint filled                  # they hold some batch of these data
    # The cut.
    bint blas
    bint wide
    Py_ssize_t width
    Py_ssize_t held              # blocks that are kept at once
    Py_ssize_t blocks            # of the present batch
    Py_ssize_t parts
    Py_ssize_t n_pieces
    Py_ssize_t piece_size        # numbers in piece_gradients for each thread, biases last
    Piece* pieces
    # Memory.
    void* theta
    void* following              # theta after the update
    void* state
    void* gradient               # one for each part
    void* piece_gradients        # of each thread, where no whole gradient is needed; or NULL
    void* transposed             # the weights of a wide network again, columns first
    void* examples               # of one block, as they lie in X; of each thread
    void* X_blocks
    void* Y_blocks
    void* weight_blocks
    void* activations            # of the blocks that are kept, or of each thread
    void* slopes                 # of each thread
    void* panels                 # transposed inputs of a wide network's layers
    double* partial_costs        # of blocks or parts
    # The team.
    Team team
    Py_ssize_t work              # multiply-adds since the last look for Ctrl-C
    bint broken
    bint stop
    bint interrupted
    bint deaf                    # others listen for Ctrl-C
    void* owner


cdef inline Py_ssize_t rows_of(const Plan* plan) noexcept nogil:
    """Rows of activations in a block."""
    return plan.rows_at[plan.n_layers]


cdef void next_batch(Plan* plan, size_t itemsize) noexcept nogil:
    """Set the batch of the iteration that comes."""
    cdef Py_ssize_t batches, e, b, k
    if plan.order == NULL:
        plan.n = plan.m
        plan.batch = NULL
    else:
        batches = (plan.m + plan.batch_size - 1) // plan.batch_size
        b = plan.first + plan.done
        k = b % batches * plan.batch_size
        plan.batch = plan.order + b // batches * plan.m + k
        plan.n = min(plan.batch_size, plan.m - k)
    plan.blocks = (plan.n + plan.width - 1) // plan.width
    plan.packed = plan.filled and plan.order == NULL and plan.blocks <= plan.held
    plan.total = plan.n
    if plan.weights != NULL:
        plan.total = 0
        for e in range(plan.n):
            b = e if plan.batch == NULL else plan.batch[e]
            if itemsize == sizeof(float):
                plan.total += (<const float*>plan.weights)[b]
            else:
                plan.total += (<const double*>plan.weights)[b]


# --- one block of examples through the whole network ------------------------------------------

cdef inline Py_ssize_t example_of(const Plan* plan, Py_ssize_t e) noexcept nogil:
    """Which of all examples is number ``e`` of the batch."""
    return e if plan.batch == NULL else plan.batch[e]


cdef void pack_block(
    const real* X, const Plan* plan, Py_ssize_t start, Py_ssize_t n, real* examples, real* X_block,
    real* Y_block, real* weight_block,
) noexcept nogil:
    """Copy a block's examples, repeating the last one up to the block's width.

    A repeated example overflows where the original does, so it brings in no NaN of its own. Where
    an example lies in one piece, it is copied to ``examples`` first: transposing that is faster
    than scattering numbers.
    """
    cdef Py_ssize_t width = plan.width, n_in = plan.sizes[0], n_out = plan.sizes[plan.n_layers]
    cdef Py_ssize_t e, i, last = start + n - 1
    cdef const real* Y = <const real*>plan.Y
    if plan.X_row == 1:
        for e in range(width):
            memcpy(
                examples + e * n_in, X + example_of(plan, min(start + e, last)) * plan.X_column,
                n_in * sizeof(real),
            )
        transpose(examples, n_in, width, n_in, X_block, width)
    else:
        for i in range(n_in):
            for e in range(width):
                X_block[i * width + e] = X[
                    i * plan.X_row + example_of(plan, min(start + e, last)) * plan.X_column
                ]
    for i in range(n_out):
        for e in range(width):
            Y_block[i * width + e] = Y[i * plan.m + example_of(plan, min(start + e, last))]
    if plan.weights != NULL:
        for e in range(width):
            weight_block[e] = (<const real*>plan.weights)[example_of(plan, min(start + e, last))]


cdef void forward_block(
    const real* theta, const Plan* plan, const real* X, real* activations, real* slopes,
    Py_ssize_t columns,
) noexcept nogil:
    """Fill the rows of ``activations``, layer below layer; the last layer stays linear."""
    cdef const real* A = X
    cdef const real* W
    cdef real* Z
    cdef Py_ssize_t width = plan.width
    cdef Py_ssize_t layer, n_in, n_out, r
    cdef bint last
    for layer in range(plan.n_layers):
        n_in = plan.sizes[layer]
        n_out = plan.sizes[layer + 1]
        last = layer == plan.n_layers - 1
        W = theta + plan.weights_at[layer]
        Z = activations + plan.rows_at[layer] * width
        product(
            W, n_in, 1, n_out, n_in, W + n_out * n_in, A, width, Z, width, columns,
            RELU if plan.hidden == H_RELU and not last else LINEAR,
        )
        if plan.hidden != H_RELU and not last:
            for r in range(n_out):
                activate_row(
                    Z + r * width, slopes + (plan.rows_at[layer] + r) * width, columns,
                    plan.hidden, <real>plan.slope,
                )
        A = Z


cdef double gradient_block(
    const real* theta, Plan* plan, Py_ssize_t block, Py_ssize_t rank, real* gradient,
) noexcept nogil:
    """Take a block of the present batch forward and back; return its sum of losses.

    A narrow network adds its share to ``gradient``. A wide one leaves the gradients at its layers
    in the block's activations, and the inputs of its layers in the panels.
    """
    cdef Py_ssize_t width = plan.width, lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t pair = 2 * lanes, slot = block % plan.held
    cdef Py_ssize_t start = block * width
    cdef Py_ssize_t n = min(width, plan.n - start)
    cdef Py_ssize_t columns = (n + lanes - 1) // lanes * lanes
    cdef Py_ssize_t n_outputs = plan.sizes[plan.n_layers]
    cdef real* X = <real*>plan.X_blocks + slot * plan.sizes[0] * width
    cdef real* Y = <real*>plan.Y_blocks + slot * n_outputs * width
    cdef real* w = NULL
    cdef real* activations
    cdef real* slopes = <real*>plan.slopes + rank * rows_of(plan) * width
    cdef real* dZ
    cdef real* A
    cdef real* panels = <real*>plan.panels
    cdef const real* W
    cdef Py_ssize_t layer, n_in, n_out, r, e
    cdef double total

    if plan.weights != NULL:
        w = <real*>plan.weight_blocks + slot * width
    activations = <real*>plan.activations + (slot if plan.wide else rank) * rows_of(plan) * width
    if not plan.packed:
        pack_block(
            <const real*>plan.X, plan, start, n,
            <real*>plan.examples + rank * plan.sizes[0] * width, X, Y, w,
        )
        if plan.wide:
            make_panels(
                X, width, n, plan.sizes[0], panels + slot * width * pair, plan.held * width * pair
            )

    forward_block(theta, plan, X, activations, slopes, columns)

    dZ = activations + plan.rows_at[plan.n_layers - 1] * width
    total = loss_block(
        plan.loss, dZ, Y, w, <real*>NULL, n_outputs, width, n,
        <real>(1 / plan.total if plan.total > 0 else 0),
    )
    # The examples that fill up the block have no say.
    for r in range(n_outputs):
        for e in range(n, columns):
            dZ[r * width + e] = 0

    for layer in range(plan.n_layers - 1, -1, -1):
        n_in = plan.sizes[layer]
        n_out = plan.sizes[layer + 1]
        W = theta + plan.weights_at[layer]
        A = X
        if layer > 0:
            A = activations + plan.rows_at[layer - 1] * width
        if not plan.wide:
            gradient_product(
                dZ, width, A, width, n_out, n_in, columns, gradient + plan.weights_at[layer],
                gradient + plan.weights_at[layer] + n_out * n_in,
            )
        if layer == 0:
            break
        if plan.wide:
            make_panels(
                A, width, n, n_in, panels + plan.panels_at[layer] + slot * width * pair,
                plan.held * width * pair,
            )
        if plan.hidden != H_RELU:
            for r in range(n_in):
                slopes_of_row(
                    A + r * width, slopes + (plan.rows_at[layer - 1] + r) * width, columns,
                    plan.hidden, <real>plan.slope,
                )
        if plan.wide:
            W = <const real*>plan.transposed + plan.weights_at[layer]
        product(
            W, n_out if plan.wide else 1, 1 if plan.wide else n_in, n_in, n_out,
            <const real*>NULL, dZ, width, A, width, columns,
            RELU_BACKWARD if plan.hidden == H_RELU else MULTIPLY,
        )
        dZ = A
    return total


# --- updates --------------------------------------------------------------------------------------

cdef bint update_range(
    const real* theta, const real* g, const Plan* plan, Py_ssize_t start, Py_ssize_t n,
    bint weights,
) noexcept nogil:
    """Write ``n`` parameters after their update; return whether one is no finite number.

    ``weights`` says whether penalties apply. ``g`` is the gradient by the first of them.
    """
    cdef const real* p = theta + start
    cdef real* out = <real*>plan.following + start
    cdef real* first = <real*>plan.state + start
    cdef real* second = <real*>plan.state + plan.n_parameters + start
    cdef double learning_rate = plan.rates[plan.done]
    cdef double t = <double>(plan.step + plan.done + 1)
    cdef real rate = <real>learning_rate
    cdef real l2 = <real>(plan.l2 if weights else 0)
    cdef real keep = <real>(1 - learning_rate * plan.weight_decay if weights else 1)
    cdef real beta1 = <real>plan.beta1, beta2 = <real>plan.beta2, epsilon = <real>plan.epsilon
    cdef real rest1 = <real>(1 - plan.beta1), rest2 = <real>(1 - plan.beta2)
    cdef real root = 1
    cdef real x, d, v
    cdef Py_ssize_t k
    cdef int64_t broken = 0
    # The difference of a number to itself is 0 for finite numbers and NaN for all others.
    if plan.rule == GRADIENT_DESCENT:
        for k in range(n):
            x = p[k] - rate * (g[k] + l2 * p[k])
            out[k] = x
            broken += x - x != 0
    elif plan.rule == MOMENTUM:
        for k in range(n):
            v = beta1 * first[k] + (g[k] + l2 * p[k])
            first[k] = v
            x = p[k] - rate * v
            out[k] = x
            broken += x - x != 0
    elif plan.rule == NESTEROV:
        for k in range(n):
            d = g[k] + l2 * p[k]
            v = beta1 * first[k] + d
            first[k] = v
            x = p[k] - rate * (d + beta1 * v)
            out[k] = x
            broken += x - x != 0
    elif plan.rule == ADAM:
        rate = <real>(learning_rate / (1 - pow(plan.beta1, t)))
        root = <real>(1 / sqrt(1 - pow(plan.beta2, t)))
        for k in range(n):
            d = g[k] + l2 * p[k]
            v = first[k] + rest1 * (d - first[k])
            first[k] = v
            d = beta2 * second[k] + rest2 * (d * d)
            second[k] = d
            x = keep * p[k] - rate * v / (<real>sqrt(d) * root + epsilon)
            out[k] = x
            broken += x - x != 0
    return broken != 0


cdef inline Py_ssize_t weights_of(const Plan* plan, const Piece* piece) noexcept nogil:
    """Where a piece's weights begin in theta."""
    if piece.layer < 0:
        return 0
    return plan.weights_at[piece.layer] + piece.start * plan.sizes[piece.layer]


cdef inline Py_ssize_t biases_of(const Plan* plan, const Piece* piece) noexcept nogil:
    """Where a piece's biases begin in theta."""
    if piece.layer < 0:
        return 0
    return (
        plan.weights_at[piece.layer] + piece.start
        + plan.sizes[piece.layer + 1] * plan.sizes[piece.layer]
    )


cdef bint update_piece(
    const real* theta, const real* dW, const real* db, Plan* plan, const Piece* piece
) noexcept nogil:
    """Update some rows of weights and their biases; return whether one is no finite number.

    ``dW`` and ``db`` are the gradients by these alone.
    """
    cdef Py_ssize_t n_in, n_out, at = weights_of(plan, piece), rows = piece.stop - piece.start
    cdef bint broken
    cdef real* columns
    if piece.layer < 0:
        return update_range(theta, dW, plan, 0, plan.n_parameters, False)
    n_in = plan.sizes[piece.layer]
    n_out = plan.sizes[piece.layer + 1]
    broken = update_range(theta, dW, plan, at, rows * n_in, True)
    broken |= update_range(theta, db, plan, biases_of(plan, piece), rows, False)
    if plan.wide and piece.layer > 0:
        columns = <real*>plan.transposed + plan.weights_at[piece.layer] + piece.start
        transpose(<const real*>plan.following + at, n_in, rows, n_in, columns, n_out)
    return broken


cdef void update_pieces(const real* theta, Plan* plan) noexcept nogil:
    """Take pieces that nobody else has, and update them by the whole gradient."""
    cdef const real* gradient = <const real*>plan.gradient
    cdef Py_ssize_t t = team_take(&plan.team)
    cdef const Piece* piece
    while t < plan.n_pieces:
        piece = &plan.pieces[t]
        if update_piece(
            theta, gradient + weights_of(plan, piece), gradient + biases_of(plan, piece), plan,
            piece,
        ):
            plan.broken = True
        t = team_take(&plan.team)


cdef void gradient_piece(
    real* dW, real* db, Plan* plan, const Piece* piece, Py_ssize_t examples, bint add
) noexcept nogil:
    """The gradient by some rows of a wide network's weights, over ``examples`` that are held."""
    cdef Py_ssize_t width = plan.width, pair = 2 * (VECTOR_BYTES // sizeof(real))
    cdef const real* dZ = <const real*>plan.activations
    cdef const real* panels = <const real*>plan.panels
    dZ += (plan.rows_at[piece.layer] + piece.start) * width
    outer_product(
        dZ, width, rows_of(plan) * width, panels + plan.panels_at[piece.layer],
        plan.held * width * pair, examples, width, piece.stop - piece.start,
        plan.sizes[piece.layer], add, dW, db,
    )


# --- the loop -------------------------------------------------------------------------------------

cdef void look_for_signals(Plan* plan, Py_ssize_t more) noexcept nogil:
    """Let Ctrl-C be heard, every SIGNAL_WORK multiply-adds."""
    plan.work += more
    if plan.work > SIGNAL_WORK and not plan.deaf:
        plan.work = 0
        with gil:
            try:
                PyErr_CheckSignals()
            except BaseException as error:
                (<Descent>plan.owner).error = error
                plan.interrupted = True


cdef double gradient_part(
    const real* theta, Plan* plan, Py_ssize_t part, Py_ssize_t rank
) noexcept nogil:
    """Overwrite one part's gradient of a narrow network; return its sum of losses."""
    cdef real* gradient = <real*>plan.gradient + part * plan.n_parameters
    cdef Py_ssize_t block
    cdef double total = 0
    memset(gradient, 0, plan.n_parameters * sizeof(real))
    for block in range(part * plan.blocks // plan.parts, (part + 1) * plan.blocks // plan.parts):
        if plan.interrupted:
            break
        total += gradient_block(theta, plan, block, rank, gradient)
        if rank == 0:
            look_for_signals(plan, 3 * plan.width * plan.n_parameters * plan.team.size)
    return total


cdef void add_parts(const real* theta, Plan* plan) noexcept nogil:
    """Add the parts' gradients to the first, in order."""
    cdef real* gradient = <real*>plan.gradient
    cdef const real* other = gradient
    cdef Py_ssize_t _part, k
    for _part in range(1, plan.parts):
        other += plan.n_parameters
        for k in range(plan.n_parameters):
            gradient[k] += other[k]


cdef void finish_iteration(Plan* plan, size_t itemsize) noexcept nogil:
    """Record the cost, and let the next theta take its place; one thread alone."""
    cdef void* theta = plan.theta
    if plan.broken:
        plan.stop = True
        return
    plan.costs[plan.done] = plan.cost / plan.total if plan.total > 0 else 0
    plan.cost = 0
    if plan.rule != NO_UPDATE:
        plan.theta = plan.following
        plan.following = theta
    plan.done += 1
    plan.filled = True
    if plan.done == plan.iterations:
        plan.stop = True
    else:
        next_batch(plan, itemsize)


cdef void work(const real* theta, Plan* plan, Py_ssize_t rank) noexcept nogil:
    """What every thread of the team does until the iterations are done."""
    cdef Py_ssize_t start, held, examples, tasks, t
    cdef const Piece* piece
    cdef real* dW
    cdef real* db
    cdef bint last
    while not plan.stop:
        theta = <const real*>plan.theta
        start = 0
        last = False
        while not last:
            held = min(plan.held, plan.blocks - start)
            examples = min(held * plan.width, plan.n - start * plan.width)
            last = start + held == plan.blocks
            tasks = held if plan.wide else plan.parts
            t = team_take(&plan.team)
            while t < tasks and not plan.interrupted:
                if plan.wide:
                    plan.partial_costs[t] = gradient_block(
                        theta, plan, start + t, rank, <real*>NULL
                    )
                    if rank == 0:
                        look_for_signals(plan, 3 * plan.width * plan.n_parameters * plan.team.size)
                else:
                    plan.partial_costs[t] = gradient_part(theta, plan, t, rank)
                t = team_take(&plan.team)
            if team_arrive(&plan.team):
                for t in range(tasks):
                    plan.cost += plan.partial_costs[t]
                if not plan.wide:
                    add_parts(theta, plan)
                team_release(&plan.team)
            if plan.interrupted:
                return
            t = team_take(&plan.team)
            while t < plan.n_pieces:
                piece = &plan.pieces[t]
                dW = <real*>plan.gradient + weights_of(plan, piece)
                db = <real*>plan.gradient + biases_of(plan, piece)
                if plan.piece_gradients != NULL:
                    dW = <real*>plan.piece_gradients + rank * plan.piece_size
                    db = dW + plan.piece_size - PIECE_ROWS
                if plan.wide:
                    gradient_piece(dW, db, plan, piece, examples, start > 0)
                if last and plan.rule != NO_UPDATE:
                    if update_piece(theta, <const real*>dW, <const real*>db, plan, piece):
                        plan.broken = True
                t = team_take(&plan.team)
            if team_arrive(&plan.team):
                if last:
                    finish_iteration(plan, sizeof(real))
                team_release(&plan.team)
            start += held


# Neither a name of the module nor something to pickle: it holds a thread's locks.
@cython.internal
@cython.auto_pickle(False)
cdef class Helper:
    """A thread that does one task after the other, and sleeps in between."""

    cdef Py_ssize_t rank
    cdef object task, start, end

    def serve(self):
        """Do what comes until it is nothing."""
        self.start.acquire()
        while self.task is not None:
            try:
                self.task(self.rank)
            finally:
                self.task = None
                self.end.release()
            self.start.acquire()


# As above: threads cannot be pickled.
@cython.internal
@cython.auto_pickle(False)
cdef class Helpers:
    """The helpers of one run, there until it ends.

    A thread that wakes up goes on where it was, while a new one may come to the core of the thread
    that started it, and stay there for milliseconds. They are started below the module
    ``threading``, between whose lines an interrupt could fall.
    """

    cdef list helpers
    cdef object process

    cdef list called(self, Py_ssize_t n):
        """Return up to ``n`` helpers, as many as there are threads to be had."""
        cdef Helper helper
        if self.process != os.getpid():  # also after a fork, which leaves the threads behind
            self.process, self.helpers = os.getpid(), []
        while len(self.helpers) < n:
            helper = Helper()
            helper.rank = len(self.helpers) + 1
            helper.start, helper.end = _thread.allocate_lock(), _thread.allocate_lock()
            helper.start.acquire()
            helper.end.acquire()
            try:
                _thread.start_new_thread(helper.serve, ())
            except RuntimeError:
                break
            self.helpers.append(helper)
        return self.helpers[:n]

    def __del__(self):
        cdef Helper helper
        for helper in self.helpers or ():
            helper.task = None
            helper.start.release()


cdef object done_by_all(list helpers, task):
    """Do ``task(rank)`` here and on all helpers; when all are back, return Ctrl-C if it came.

    It waits so long: the others would wait for ever for a thread that left, and an update must be
    whole.
    """
    cdef Helper helper
    interrupt = None
    for helper in helpers:
        helper.task = task
        helper.start.release()
    task(0)
    for helper in helpers:
        while True:
            try:
                helper.end.acquire()
                break
            except BaseException as error:
                interrupt = error
    return interrupt


# As above: it holds addresses.
@cython.internal
@cython.auto_pickle(False)
cdef class Descent:
    """A plan with its memory and its threads."""

    cdef Plan plan
    cdef size_t itemsize
    cdef Helpers helpers
    cdef object error
    cdef void* memory[32]
    cdef Py_ssize_t n_memory

    def __cinit__(self, helpers=None):
        self.helpers = Helpers() if helpers is None else helpers

    def __dealloc__(self):
        while self.n_memory > 0:
            self.n_memory -= 1
            free(self.memory[self.n_memory])

    cdef void* allocate(self, Py_ssize_t n_bytes) except NULL:
        """Memory on a cache line's boundary, as long as this object lives."""
        cdef void* memory = malloc(n_bytes + 64)
        if memory == NULL:
            raise MemoryError(f"no memory for {n_bytes} bytes of scratch")
        self.memory[self.n_memory] = memory
        self.n_memory += 1
        return <void*>((<size_t>memory + 63) & ~<size_t>63)

    cdef Py_ssize_t* indices(self, Py_ssize_t n) except NULL:
        return <Py_ssize_t*>self.allocate(n * sizeof(Py_ssize_t))

    cdef int shape(self, layout, const Py_ssize_t[::1] sizes, Py_ssize_t batch_size) except -1:
        """Lay out the network, and cut batches of up to ``batch_size`` examples into blocks."""
        cdef Plan* plan = &self.plan
        cdef Py_ssize_t pair = 2 * VECTOR_BYTES // self.itemsize
        cdef Py_ssize_t layer, most, blocks, parameters = 0, rows = 0
        plan.owner = <void*>self
        plan.n_layers = sizes.shape[0] - 1
        plan.sizes = &sizes[0]
        plan.hidden = HIDDEN[layout.hidden]
        plan.slope = layout.slope
        plan.loss = LOSSES[layout.loss]
        plan.weights_at = self.indices(plan.n_layers)
        plan.rows_at = self.indices(plan.n_layers + 1)
        plan.panels_at = self.indices(plan.n_layers + 1)
        for layer in range(plan.n_layers):
            plan.weights_at[layer] = parameters
            plan.rows_at[layer] = rows
            parameters += sizes[layer + 1] * (sizes[layer] + 1)
            rows += sizes[layer + 1]
        plan.rows_at[plan.n_layers] = rows
        plan.n_parameters = parameters
        plan.wide = parameters >= WIDE_PARAMETERS
        plan.blas = parameters >= BLAS_PARAMETERS
        if plan.wide:
            most = max(WIDE_BYTES // <Py_ssize_t>self.itemsize // pair * pair, pair)
        else:
            most = BLOCK_BYTES // ((rows + sizes[0]) * <Py_ssize_t>self.itemsize) // pair * pair
            most = min(max(most, pair), LOSS_BLOCK)
            # All blocks alike, for parts of one length.
            blocks = max((batch_size + most - 1) // most, 1)
            most = max((batch_size + blocks - 1) // blocks, 1)
        # Whole pairs of registers; only the last block has fewer examples.
        plan.width = min(most, max((batch_size + pair - 1) // pair, 1) * pair)
        plan.width = (plan.width + pair - 1) // pair * pair
        blocks = max((batch_size + plan.width - 1) // plan.width, 1)
        plan.held = blocks
        if plan.wide:
            plan.held = min(blocks, SUPER_BYTES // <Py_ssize_t>self.itemsize // plan.width)
        plan.blocks = blocks
        return 0

    cdef int arrange(self, Py_ssize_t threads) except -1:
        """Share the work out, and allocate what it takes."""
        cdef Plan* plan = &self.plan
        cdef Py_ssize_t itemsize = self.itemsize, width = plan.width
        cdef Py_ssize_t pair = 2 * VECTOR_BYTES // itemsize
        cdef Py_ssize_t work = 3 * plan.blocks * width * plan.n_parameters
        cdef Py_ssize_t layer, n_in, n_out, pieces, k, tasks, panels = 0
        cdef bint many = work >= (WIDE_THREAD_WORK if plan.wide else NARROW_THREAD_WORK)
        plan.parts = min(<Py_ssize_t>PARTS, plan.blocks) if many and not plan.wide else 1
        pieces = 0
        for layer in range(plan.n_layers):
            pieces += (plan.sizes[layer + 1] + PIECE_ROWS - 1) // PIECE_ROWS
        plan.pieces = <Piece*>self.allocate(pieces * sizeof(Piece))
        if plan.wide:
            for layer in range(plan.n_layers):
                n_out = plan.sizes[layer + 1]
                pieces = (n_out + PIECE_ROWS - 1) // PIECE_ROWS
                for k in range(pieces):
                    plan.pieces[plan.n_pieces].layer = layer
                    plan.pieces[plan.n_pieces].start = k * n_out // pieces
                    plan.pieces[plan.n_pieces].stop = (k + 1) * n_out // pieces
                    plan.n_pieces += 1
        elif plan.l2 > 0 or plan.weight_decay > 0:
            for layer in range(plan.n_layers):
                plan.pieces[layer].layer = layer
                plan.pieces[layer].start = 0
                plan.pieces[layer].stop = plan.sizes[layer + 1]
            plan.n_pieces = plan.n_layers
        else:
            plan.pieces[0].layer = -1
            plan.n_pieces = 1
        if plan.blas:
            # Theirs are the products, and no weights are kept transposed; updates are as ever.
            plan.wide = False
            plan.team.size = max(min(threads, plan.n_pieces), 1)
            return 0
        tasks = max(plan.held, plan.n_pieces) if plan.wide else plan.parts
        plan.team.size = max(min(threads, tasks), 1) if many else 1

        plan.examples = self.allocate(plan.team.size * plan.sizes[0] * width * itemsize)
        plan.X_blocks = self.allocate(plan.held * plan.sizes[0] * width * itemsize)
        n_out = plan.sizes[plan.n_layers]
        plan.Y_blocks = self.allocate(plan.held * n_out * width * itemsize)
        plan.weight_blocks = self.allocate(plan.held * width * itemsize)
        k = plan.held if plan.wide else plan.team.size
        plan.activations = self.allocate(k * rows_of(plan) * width * itemsize)
        if keeps_slopes(plan.hidden):
            plan.slopes = self.allocate(plan.team.size * rows_of(plan) * width * itemsize)
        plan.partial_costs = <double*>self.allocate(max(plan.held, plan.parts) * sizeof(double))
        if plan.wide:
            for layer in range(plan.n_layers):
                plan.panels_at[layer] = panels
                n_in = (plan.sizes[layer] + pair - 1) // pair
                panels += n_in * plan.held * width * pair
            plan.panels = self.allocate(panels * itemsize)
            memset(plan.panels, 0, panels * itemsize)
            plan.transposed = self.allocate(plan.n_parameters * itemsize)
            if plan.held == plan.blocks and plan.rule != NO_UPDATE:
                # A piece is whole at once: it is used up while it is in the nearest cache.
                for layer in range(plan.n_layers):
                    plan.piece_size = max(plan.piece_size, PIECE_ROWS * (plan.sizes[layer] + 1))
                plan.piece_gradients = self.allocate(plan.team.size * plan.piece_size * itemsize)
        return 0

    cdef int spread(self, task) except -1:
        """Do ``task(rank)`` on all threads of the team; Ctrl-C waits in ``error``."""
        helpers = self.helpers.called(self.plan.team.size - 1)
        self.plan.team.size = 1 + len(helpers)
        self.error = done_by_all(helpers, task) or self.error
        return 0

    cdef int run(self) except -1:
        """Run the iterations."""
        next_batch(&self.plan, self.itemsize)
        self.spread(self.iterate)
        if self.error is not None:
            raise self.error
        return 0

    def iterate(self, Py_ssize_t rank):
        """Work along until the iterations are done."""
        with nogil:
            if self.itemsize == sizeof(float):
                work(<const float*>self.plan.theta, &self.plan, rank)
            else:
                work(<const double*>self.plan.theta, &self.plan, rank)

    def update(self, Py_ssize_t rank):
        """Update pieces as long as there are any."""
        with nogil:
            if self.itemsize == sizeof(float):
                update_pieces(<const float*>self.plan.theta, &self.plan)
            else:
                update_pieces(<const double*>self.plan.theta, &self.plan)


cdef struct Course:
    # What sets one network of a stack apart from the others.
    Kind rule
    double beta1
    double beta2
    double epsilon
    double l2
    double weight_decay
    void* theta
    void* state
    const double* rates
    double* costs
    Py_ssize_t done


cdef void run_course(const real* theta, Plan* plan, Course* course) noexcept nogil:
    """Run the iterations of one network in the memory of a plan."""
    cdef void* spare = plan.following
    plan.rule = course.rule
    plan.beta1 = course.beta1
    plan.beta2 = course.beta2
    plan.epsilon = course.epsilon
    plan.l2 = course.l2
    plan.weight_decay = course.weight_decay
    plan.theta = course.theta
    plan.state = course.state
    plan.rates = course.rates
    plan.costs = course.costs
    plan.done = 0
    plan.cost = 0
    plan.broken = False
    plan.stop = False
    next_batch(plan, sizeof(real))
    transpose_all(theta, plan)
    work(theta, plan, 0)
    if plan.theta != course.theta:
        memcpy(course.theta, plan.theta, plan.n_parameters * sizeof(real))
    plan.following = spare
    course.done = plan.done


# As above: it holds addresses.
@cython.internal
@cython.auto_pickle(False)
cdef class Courses:
    """The networks of a stack, and a descent for each thread, which takes one after the other."""

    cdef list descents
    cdef Course* courses
    cdef Py_ssize_t n
    cdef Team team

    def run(self, Py_ssize_t rank):
        """Run networks as long as there are any."""
        cdef Descent descent = self.descents[rank]
        cdef Course* course
        cdef long k
        with nogil:
            k = team_take(&self.team)
            while k < self.n:
                course = &self.courses[k]
                if descent.itemsize == sizeof(float):
                    run_course(<const float*>course.theta, &descent.plan, course)
                else:
                    run_course(<const double*>course.theta, &descent.plan, course)
                if descent.plan.interrupted:
                    team_dismiss(&self.team)
                k = team_take(&self.team)


cdef int take_data(
    Descent descent, const real[:, :] X, const real[:, ::1] Y
) except -1:
    cdef Plan* plan = &descent.plan
    plan.X = &X[0, 0]
    plan.X_row = X.strides[0] // <Py_ssize_t>sizeof(real)
    plan.X_column = X.strides[1] // <Py_ssize_t>sizeof(real)
    plan.Y = &Y[0, 0]
    plan.m = X.shape[1]
    return 0


cdef void transpose_all(const real* theta, Plan* plan) noexcept nogil:
    cdef Py_ssize_t layer
    if plan.wide:
        for layer in range(1, plan.n_layers):
            transpose(
                theta + plan.weights_at[layer], plan.sizes[layer], plan.sizes[layer + 1],
                plan.sizes[layer], <real*>plan.transposed + plan.weights_at[layer],
                plan.sizes[layer + 1],
            )


# --- the largest networks: the products by BLAS ---------------------------------------------------

cdef void activate_rows(
    real[:, ::1] Z, const real[::1] b, real[:, ::1] slopes, const Plan* plan, bint last
) noexcept nogil:
    """Add the biases and take the activation, row by row; the last layer stays linear."""
    cdef Py_ssize_t n = Z.shape[1], r, e
    cdef real* z
    for r in range(Z.shape[0]):
        z = &Z[r, 0]
        for e in range(n):
            z[e] += b[r]
        if not last:
            activate_row(
                z, &slopes[r, 0] if slopes.shape[0] > 0 else NULL, n, plan.hidden,
                <real>plan.slope,
            )


cdef void backward_rows(
    real[:, ::1] dZ, real[:, ::1] A, real[:, ::1] slopes, real[::1] db, const Plan* plan, bint last,
    bint add,
) noexcept nogil:
    """Multiply gradients at activations by the slopes, and sum them up; ``A`` is overwritten."""
    cdef Py_ssize_t n = dZ.shape[1], r, e
    cdef real* d
    cdef real* a
    for r in range(dZ.shape[0]):
        d = &dZ[r, 0]
        if not last:
            a = &A[r, 0]
            slopes_of_row(
                a, &slopes[r, 0] if slopes.shape[0] > 0 else NULL, n, plan.hidden,
                <real>plan.slope,
            )
            for e in range(n):
                d[e] *= a[e]
        db[r] = row_sum(d, n) + (db[r] if add else 0)


cdef double losses_of_rows(
    real[:, ::1] dZ, const real[:, ::1] Y, const real[::1] w, const Plan* plan
) noexcept nogil:
    cdef Py_ssize_t start = 0, n, m = dZ.shape[1]
    cdef double total = 0
    while start < m:
        n = min(<Py_ssize_t>LOSS_BLOCK, m - start)
        total += loss_block(
            plan.loss, &dZ[0, start], &Y[0, start], &w[start] if plan.weights != NULL else NULL,
            <real*>NULL, dZ.shape[0], m, n, <real>(1 / plan.total if plan.total > 0 else 0),
        )
        start += n
    return total


# As above; without this, Cython would add functions that unpickle to the module.
@cython.internal
@cython.auto_pickle(False)
cdef class Layers:
    """A theta, or a gradient, as matrices and vectors."""

    cdef list W, b
    cdef object flat

    def __init__(self, flat, sizes):
        self.flat, self.W, self.b = flat, [], []
        end = 0
        for n_in, n_out in pairwise(sizes):
            start, middle, end = end, end + n_out * n_in, end + n_out * (n_in + 1)
            self.W.append(flat[start:middle].reshape(n_out, n_in))
            self.b.append(flat[middle:end])


cdef object kept(dict scratch, name, shape, dtype):
    """Memory that is there from the slice before, or else is from now on."""
    found = scratch.get((name, shape))
    if found is None:
        found = scratch[name, shape] = np.empty(shape, dtype)
    return found


cdef list matrices(dict scratch, name, rows, columns, dtype):
    return [kept(scratch, (name, i), (r, columns), dtype) for i, r in enumerate(rows)]


cdef double gradient_by_blas(
    Descent descent, Layers theta, Layers gradient, X, const real[:, ::1] Y, const real[::1] w,
    list A, list dA, list slopes, W_scratch, bint add,
) except *:
    """Overwrite the gradient with that of these examples, or add it; return the sum of losses.

    ``A``, ``dA`` and ``slopes`` hold a matrix for each layer's output, ``X`` one for the examples.
    """
    cdef Plan* plan = &descent.plan
    cdef Py_ssize_t layer, n = plan.n_layers
    cdef bint last
    cdef double total
    cdef real[:, ::1] Z, D, S
    cdef real[::1] db
    cdef const real[::1] b
    for layer in range(n):
        last = layer == n - 1
        np.matmul(theta.W[layer], A[layer - 1] if layer > 0 else X, out=A[layer])
        Z, b, S = A[layer], theta.b[layer], slopes[layer]
        PyErr_CheckSignals()
        with nogil:
            activate_rows(Z, b, S, plan, last)
    Z = A[n - 1]
    with nogil:
        total = losses_of_rows(Z, Y, w, plan)
    for layer in range(n - 1, -1, -1):
        last = layer == n - 1
        D, Z, db, S = A[layer] if last else dA[layer], A[layer], gradient.b[layer], slopes[layer]
        with nogil:
            backward_rows(D, Z, S, db, plan, last, add)
        dZ = np.asarray(D)
        inputs = A[layer - 1] if layer > 0 else X
        if add:
            product = W_scratch[: gradient.W[layer].size].reshape(gradient.W[layer].shape)
            np.matmul(dZ, inputs.T, out=product)
            np.add(gradient.W[layer], product, out=gradient.W[layer])
        else:
            np.matmul(dZ, inputs.T, out=gradient.W[layer])
        if layer > 0:
            np.matmul(theta.W[layer].T, dZ, out=dA[layer - 1])
    return total


cdef int run_blas(
    Descent descent, list sizes, theta, following, real[::1] gradient, X, labels, weights,
    dict scratch,
) except -1:
    """What ``work`` does, a layer at a time."""
    cdef Plan* plan = &descent.plan
    cdef Layers present = Layers(theta, sizes), other = Layers(following, sizes)
    cdef Layers g = Layers(np.asarray(gradient), sizes)
    cdef Py_ssize_t start, stop, most, n_columns
    cdef const real[:, ::1] Y
    cdef const real[::1] w
    cdef double cost
    dtype = present.flat.dtype
    most = min(<Py_ssize_t>BLAS_EXAMPLES, min(plan.batch_size, plan.m))
    rows = sizes[1:]
    with_slopes = rows if keeps_slopes(plan.hidden) else [0] * len(rows)
    many = min(plan.batch_size, plan.m) > most
    product = kept(scratch, "product", max([W.size for W in g.W]) if many else 0, dtype)
    examples = X.T
    next_batch(plan, descent.itemsize)
    while True:
        cost = 0
        batch = None
        if plan.batch != NULL:
            batch = np.asarray(<Py_ssize_t[:plan.n]>plan.batch)
        for start in range(0, plan.n, most):
            stop = min(start + most, plan.n)
            n_columns = stop - start
            A = matrices(scratch, "A", rows, n_columns, dtype)
            dA = matrices(scratch, "dA", rows[: len(rows) - 1], n_columns, dtype)
            slopes = matrices(scratch, "slopes", with_slopes, n_columns, dtype)
            chosen = slice(start, stop) if batch is None else batch[start:stop]
            Y = np.ascontiguousarray(labels[:, chosen])
            w = None if weights is None else np.ascontiguousarray(weights[chosen])
            cost += gradient_by_blas(
                descent, present, g, examples[chosen].T, Y, w, A, dA, slopes, product, start > 0
            )
        plan.cost = cost
        if plan.rule != NO_UPDATE:
            # From here on nothing interrupts: theta and state move together.
            plan.team.task = 0
            descent.spread(descent.update)
        finish_iteration(plan, sizeof(real))
        if descent.error is not None:
            raise descent.error
        if plan.stop:
            return 0
        present, other = other, present


# --- what Python calls ------------------------------------------------------------------------

cdef inline const real* start_of(const real[:, ::1] a) noexcept nogil:
    """The address of the first element; NULL where there is none."""
    return &a[0, 0] if a.shape[0] > 0 and a.shape[1] > 0 else NULL


cdef inline void affine(
    const real[:, ::1] W, const real[:, ::1] b, const real[:, ::1] A, real[:, ::1] out,
    Finish finish,
) noexcept nogil:
    product(
        start_of(W), W.shape[1], 1, W.shape[0], W.shape[1], start_of(b), start_of(A), A.shape[1],
        <real*>start_of(out), out.shape[1], out.shape[1], finish,
    )


def linear(
    const real[:, ::1] W,      # (n_out, n_in)
    const real[:, ::1] b,      # (n_out, 1)
    const real[:, ::1] A,      # (n_in, m)
    real[:, ::1] out,          # (n_out, m), overwritten
):
    """Overwrite ``out`` with ``W @ A + b``."""
    with nogil:
        affine(W, b, A, out, LINEAR)


def linear_relu(
    const real[:, ::1] W,      # (n_out, n_in)
    const real[:, ::1] b,      # (n_out, 1)
    const real[:, ::1] A,      # (n_in, m)
    real[:, ::1] out,          # (n_out, m), overwritten
):
    """Overwrite ``out`` with ``max(W @ A + b, 0)``; NaN stays NaN."""
    with nogil:
        affine(W, b, A, out, RELU)


def exp(
    const real[:, ::1] Z,      # (n, m)
    real[:, ::1] out,          # (n, m), overwritten
):
    """Overwrite ``out`` with ``exp(Z)``; results that are no normal numbers may be 0."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = exp_of(z[e])


def log(
    const real[:, ::1] Z,      # (n, m), each a normal positive number
    real[:, ::1] out,          # (n, m), overwritten
):
    """Overwrite ``out`` with ``log(Z)``."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = log_of(z[e])


def log1p(
    const real[:, ::1] Z,      # (n, m), each from 0 to 1
    real[:, ::1] out,          # (n, m), overwritten
):
    """Overwrite ``out`` with ``log(1 + Z)``."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = log1p_of(z[e])


def sigmoid(
    const real[:, ::1] Z,      # (n_out, m)
    real[:, ::1] out,          # (n_out, m), overwritten; may be Z
):
    """Overwrite ``out`` with ``1 / (1 + exp(-Z))``."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = sigmoid_of(z[e])


def activate(
    const real[:, ::1] Z,      # (n, m)
    hidden,                    # the name of the activation
    double slope,              # of leaky_relu
    real[:, ::1] A,            # (n, m), overwritten
    real[:, ::1] slopes,       # (n, m), overwritten
):
    """Overwrite ``A`` with the activation of ``Z``, and ``slopes`` with its derivative."""
    cdef Hidden kind = HIDDEN[hidden]
    cdef real* a = <real*>start_of(A)
    cdef real* d = <real*>start_of(slopes)
    cdef Py_ssize_t e, n = Z.shape[0] * Z.shape[1]
    A[...] = Z
    with nogil:
        activate_row(a, d, n, kind, <real>slope)
        if not keeps_slopes(kind):
            for e in range(n):
                d[e] = a[e]
            slopes_of_row(d, d, n, kind, <real>slope)


def loss(
    const real[:, ::1] Z,      # (n_out, m)
    const real[:, ::1] Y,      # (n_out, m)
    const real[::1] weights,   # (m,), of the examples; None where all are 1
    loss,                      # its name
    real[:, ::1] A,            # (n_out, m), overwritten
    real[:, ::1] dZ,           # (n_out, m), overwritten
):
    """Overwrite ``A`` with the outputs and ``dZ`` with ``(A - Y) * w / sum(w)``; return the cost.

    ``w`` is 1 without ``weights``. Where all weights are zero, cost and ``dZ`` are. The saturating
    cross-entropy is the lesson's, ``nansum(-log(A) * Y - log(1 - A) * (1 - Y)) / m``, infinite
    where the sigmoid saturates on the wrong side.
    """
    cdef Loss kind = LOSSES[loss]
    cdef Py_ssize_t m = Z.shape[1], n_out = Z.shape[0]
    cdef Py_ssize_t start = 0, n, e
    cdef double total = 0, whole = m
    cdef const real* w = NULL
    if n_out == 0 or m == 0:
        return float("nan") if m == 0 else 0.0
    dZ[...] = Z
    if weights is not None:
        w = &weights[0]
        whole = 0
        for e in range(m):
            whole += w[e]
    with nogil:
        while start < m:
            n = min(<Py_ssize_t>LOSS_BLOCK, m - start)
            total += loss_block(
                kind, &dZ[0, start], &Y[0, start], w + start if w != NULL else w, &A[0, start],
                n_out, m, n, <real>(1 / whole if whole > 0 else 0),
            )
            start += n
    return total / whole if whole > 0 else 0.0


def backward(
    const real[:, ::1] W,      # (n_out, n_in)
    const real[:, ::1] A,      # (n_in, m), what the layer read
    const real[:, ::1] dZ,     # (n_out, m)
    real[:, ::1] dW,           # (n_out, n_in), accumulated
    real[:, ::1] db,           # (n_out, 1), accumulated
    real[:, ::1] dA,           # (n_in, m), overwritten; None where nobody asks
):
    """Accumulate ``dW += dZ @ A.T`` and ``db += sum(dZ)``; overwrite ``dA``.

    ``dA = (W.T @ dZ) * (A > 0)``: the mask of the ReLU that made ``A``. ``dA`` may be ``A``.
    """
    cdef Py_ssize_t m = A.shape[1]
    cdef bint wanted = dA is not None
    if wanted and m > 0 and A.shape[0] > 0 and &dA[0, 0] != &A[0, 0]:
        dA[...] = A
    with nogil:
        gradient_product(
            start_of(dZ), m, start_of(A), m, W.shape[0], W.shape[1], m, <real*>start_of(dW),
            <real*>start_of(db),
        )
        if wanted:
            product(
                start_of(W), 1, W.shape[1], W.shape[1], W.shape[0], <const real*>NULL,
                start_of(dZ), m, <real*>start_of(dA), m, m, RELU_BACKWARD,
            )


cdef int take_rule(Descent descent, rule) except -1:
    cdef Plan* plan = &descent.plan
    plan.rule = RULES[rule.name]
    plan.beta1 = rule.beta1
    plan.beta2 = rule.beta2
    plan.epsilon = rule.epsilon
    plan.l2 = rule.l2
    plan.weight_decay = rule.weight_decay
    return 0


def update_parameters(
    layout,
    rule,
    real[::1] theta,           # (n_parameters,), updated in place
    const real[::1] gradient,  # (n_parameters,)
    real[:, ::1] state,        # (slots, n_parameters), updated in place
    Py_ssize_t step,           # updates before this one
    double learning_rate,
):
    """Update ``theta`` and ``state`` in place."""
    cdef Descent descent = Descent()
    cdef Plan* plan = &descent.plan
    cdef const Py_ssize_t[::1] sizes = layout.sizes
    descent.itemsize = sizeof(real)
    take_rule(descent, rule)
    descent.shape(layout, sizes, 1)
    descent.arrange(1)
    plan.state = &state[0, 0] if state.shape[0] > 0 else NULL
    plan.gradient = <void*>&gradient[0]
    plan.theta = plan.following = &theta[0]
    plan.step = step
    plan.rates = &learning_rate
    descent.update(0)


def forward(
    layout,
    const real[::1] theta,         # (n_parameters,)
    const real[:, :] X,            # (sizes[0], m)
    const real[:, ::1] Y,          # (sizes[-1], m); None where no cost is asked for
    const real[::1] weights,       # (m,), of the examples; None where all are 1
    real[:, ::1] out,              # (sizes[-1], m), overwritten
):
    """Overwrite ``out`` with the network's outputs; return the cost, NaN without ``Y``."""
    cdef Descent descent = Descent()
    cdef Plan* plan = &descent.plan
    cdef const Py_ssize_t[::1] sizes = layout.sizes
    cdef Py_ssize_t m = X.shape[1], block, n, o, e, n_out = out.shape[0]
    cdef bint asked = Y is not None
    cdef double cost = 0
    cdef real* A
    cdef real* Z
    cdef const real* w = NULL
    if m == 0:
        return float("nan")
    descent.itemsize = sizeof(real)
    descent.shape(layout, sizes, m)
    plan.held = 1
    plan.blocks = 1
    plan.blas = False
    descent.arrange(1)
    # Labels of no meaning, where none are given: the outputs do not depend on them.
    take_data(descent, X, Y if asked else out)
    if not asked:
        out[...] = 0
    if weights is not None:
        plan.weights = &weights[0]
        w = <const real*>plan.weight_blocks
    plan.batch_size = m
    next_batch(plan, sizeof(real))
    A = <real*>descent.allocate(n_out * plan.width * sizeof(real))
    Z = <real*>plan.activations + plan.rows_at[plan.n_layers - 1] * plan.width
    with nogil:
        for block in range(plan.blocks):
            n = min(plan.width, m - block * plan.width)
            pack_block(
                <const real*>plan.X, plan, block * plan.width, n, <real*>plan.examples,
                <real*>plan.X_blocks, <real*>plan.Y_blocks, <real*>plan.weight_blocks,
            )
            forward_block(
                &theta[0], plan, <const real*>plan.X_blocks, <real*>plan.activations,
                <real*>plan.slopes, plan.width,
            )
            cost += loss_block(
                plan.loss, Z, <const real*>plan.Y_blocks, w, A, n_out, plan.width, n, <real>1
            )
            for o in range(n_out):
                for e in range(n):
                    out[o, block * plan.width + e] = A[o * plan.width + e]
            look_for_signals(plan, plan.width * plan.n_parameters)
            if plan.interrupted:
                break
    if descent.error is not None:
        raise descent.error
    if not asked:
        return float("nan")
    return cost / plan.total if plan.total > 0 else 0.0


def loss_and_gradient(
    layout,
    const real[::1] theta,         # (n_parameters,)
    const real[:, :] X,            # (sizes[0], m), m > 0
    const real[:, ::1] Y,          # (sizes[-1], m)
    const real[::1] weights,       # (m,), of the examples; None where all are 1
    real[::1] gradient,            # (n_parameters,), overwritten
    Py_ssize_t threads,
):
    """Overwrite ``gradient`` with the cost's derivative by ``theta``; return the cost."""
    cdef Descent descent = Descent()
    cdef Plan* plan = &descent.plan
    cdef const Py_ssize_t[::1] sizes = layout.sizes
    cdef double cost = 0
    descent.itemsize = sizeof(real)
    descent.shape(layout, sizes, X.shape[1])
    descent.arrange(threads)
    take_data(descent, X, Y)
    if weights is not None:
        plan.weights = &weights[0]
    plan.batch_size = plan.m
    plan.theta = <void*>&theta[0]
    plan.costs = &cost
    plan.iterations = 1
    plan.gradient = &gradient[0]
    if plan.parts > 1:
        plan.gradient = descent.allocate(plan.parts * plan.n_parameters * sizeof(real))
    if plan.blas:
        run_blas(
            descent, layout.sizes.tolist(), np.asarray(theta), np.asarray(theta), gradient,
            np.asarray(X), np.asarray(Y), None if weights is None else np.asarray(weights), {},
        )
        return cost
    transpose_all(&theta[0], plan)
    descent.run()
    if plan.parts > 1:
        memcpy(&gradient[0], plan.gradient, plan.n_parameters * sizeof(real))
    return cost


def descend(
    layout,
    rule,
    real[::1] theta,               # (n_parameters,), updated in place
    real[:, ::1] state,            # (slots, n_parameters), updated in place
    Py_ssize_t step,               # updates before these
    const real[:, :] X,            # (sizes[0], m), m > 0
    const real[:, ::1] Y,          # (sizes[-1], m)
    const real[::1] weights,       # (m,), of the examples; None where all are 1
    const Py_ssize_t[:, ::1] order,  # (epochs, m): the order of the examples; None for full batches
    Py_ssize_t batch_size,
    Py_ssize_t first,              # which of the batches of ``order`` is the first
    const double[::1] rates,       # (iterations,)
    double[::1] costs,             # (iterations,), overwritten up to the number returned
    Py_ssize_t threads,            # at most so many
    scratch=None,                  # a dict that keeps memory and threads for the run's next slice
):
    """Run ``costs.shape[0]`` iterations; return how many were whole.

    Iteration ``i`` takes batch ``first + i`` of the batches that the rows of ``order`` are cut
    into, each ``batch_size`` examples but the last of a row; all examples without ``order``.

    ``costs[i]`` is the cost before update ``i``. Fewer are returned when the next update would
    leave the finite numbers: ``theta`` then stays at its last finite value.

    Ctrl-C raises from within, with ``theta`` as the last whole iteration left it.
    """
    cdef Descent descent
    cdef Plan* plan
    cdef const Py_ssize_t[::1] sizes = layout.sizes
    cdef real[::1] following, gradient
    if costs.shape[0] == 0:
        return 0
    scratch = {} if scratch is None else scratch
    if "helpers" not in scratch:
        scratch["helpers"] = Helpers()
    descent = Descent(scratch["helpers"])
    plan = &descent.plan
    descent.itemsize = sizeof(real)
    take_rule(descent, rule)
    descent.shape(layout, sizes, X.shape[1] if order is None else min(batch_size, X.shape[1]))
    descent.arrange(threads)
    take_data(descent, X, Y)
    if weights is not None:
        plan.weights = &weights[0]
    plan.batch_size = batch_size
    if order is not None:
        plan.order = &order[0, 0]
    plan.first = first
    plan.step = step
    plan.rates = &rates[0]
    plan.costs = &costs[0]
    plan.iterations = costs.shape[0]
    plan.theta = &theta[0]
    dtype = np.asarray(theta).dtype
    following = kept(scratch, "following", theta.shape[0], dtype)
    gradient = kept(scratch, "gradient", plan.parts * plan.n_parameters, dtype)
    plan.following = &following[0]
    plan.gradient = &gradient[0]
    plan.state = &state[0, 0] if state.shape[0] > 0 else NULL
    transpose_all(<const real*>&theta[0], plan)
    try:
        if plan.blas:
            run_blas(
                descent, layout.sizes.tolist(), np.asarray(theta), np.asarray(following), gradient,
                np.asarray(X), np.asarray(Y), None if weights is None else np.asarray(weights),
                scratch,
            )
        else:
            descent.run()
    finally:
        if plan.theta != <void*>&theta[0]:
            memcpy(&theta[0], plan.theta, plan.n_parameters * sizeof(real))
    return plan.done


def descend_stack(
    layout,
    rules,                         # one for each network
    real[:, ::1] thetas,           # (k, n_parameters), updated in place
    states,                        # (slots, n_parameters) for each network, updated in place
    Py_ssize_t step,
    const real[:, :] X,
    const real[:, ::1] Y,
    const real[::1] weights,
    const Py_ssize_t[:, ::1] order,
    Py_ssize_t batch_size,
    Py_ssize_t first,
    const double[:, ::1] rates,    # (n, iterations)
    double[:, :] costs,            # (k, iterations), rows contiguous, overwritten as by descend
    const Py_ssize_t[::1] networks,  # (n,): the rows of the networks that are to run
    Py_ssize_t threads,
    scratch=None,                  # a dict that keeps the threads for the next slice
):
    """Run :func:`descend` for some networks of a stack; return for each how many were whole.

    All that the networks share is done once, and no thread returns to Python between them.
    """
    cdef Courses stack = Courses()
    cdef Descent descent = Descent(), memory = descent
    cdef Course* course
    cdef Plan* plan
    cdef const Py_ssize_t[::1] sizes = layout.sizes
    cdef real[:, ::1] state
    cdef Py_ssize_t i, k, n = networks.shape[0], n_bytes
    if costs.shape[1] == 0:
        return [0] * n
    memory.itemsize = sizeof(real)
    memory.shape(layout, sizes, X.shape[1] if order is None else min(batch_size, X.shape[1]))
    if memory.plan.blas:
        # Threads of their own have the BLAS's products: one network after the other.
        whole = []
        for i in range(n):
            k = networks[i]
            state = states[i]
            whole.append(descend(
                layout, rules[i], thetas[k], state, step, X, Y, weights, order, batch_size, first,
                rates[i], <double[:costs.shape[1]]>&costs[k, 0], threads,
            ))
        return whole
    scratch = {} if scratch is None else scratch
    if "helpers" not in scratch:
        scratch["helpers"] = Helpers()
    helpers = (<Helpers>scratch["helpers"]).called(min(threads, n) - 1)
    stack.descents = []
    for i in range(1 + len(helpers)):
        descent = Descent()
        plan = &descent.plan
        descent.itemsize = sizeof(real)
        # The cut is that of descend; where one network has penalties, all are updated by layers.
        for rule in rules:
            take_rule(descent, rule)
            if rule.l2 > 0 or rule.weight_decay > 0:
                break
        descent.shape(layout, sizes, X.shape[1] if order is None else min(batch_size, X.shape[1]))
        descent.arrange(1)
        plan.deaf = i > 0
        take_data(descent, X, Y)
        if weights is not None:
            plan.weights = &weights[0]
        plan.batch_size = batch_size
        if order is not None:
            plan.order = &order[0, 0]
        plan.first = first
        plan.step = step
        plan.iterations = costs.shape[1]
        n_bytes = plan.n_parameters * sizeof(real)
        plan.following = descent.allocate(n_bytes)
        plan.gradient = descent.allocate(plan.parts * n_bytes)
        stack.descents.append(descent)
    stack.n = n
    stack.courses = <Course*>memory.allocate(n * sizeof(Course))
    for i in range(n):
        k = networks[i]
        take_rule(memory, rules[i])
        course = &stack.courses[i]
        course.rule = memory.plan.rule
        course.beta1 = memory.plan.beta1
        course.beta2 = memory.plan.beta2
        course.epsilon = memory.plan.epsilon
        course.l2 = memory.plan.l2
        course.weight_decay = memory.plan.weight_decay
        course.theta = &thetas[k, 0]
        state = states[i]
        course.state = &state[0, 0] if state.shape[0] > 0 else NULL
        course.rates = &rates[i, 0]
        course.costs = &costs[k, 0]
        course.done = 0
    stack.team.size = 1 + len(helpers)
    error = done_by_all(helpers, stack.run)
    descent = stack.descents[0]
    if descent.error is not None:
        raise descent.error
    if error is not None:
        raise error
    return [stack.courses[i].done for i in range(n)]
