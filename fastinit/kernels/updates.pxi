# Updates of parameters and optimiser state; the formulas are in updates.h. ``next_theta`` is
# written beside ``theta`` and replaces it if all its numbers are finite. State is updated in place.

cdef extern from "updates.h":
    enum:
        RATE
        L2
        KEEP
        EPSILON
        BETA1
        BETA2
        REST1
        REST2
        ROOT
        NESTEROV
        GAIN
        N_SETTINGS
        N_OPTIMIZERS
    const Optimizer* OPTIMIZER_TABLE "OPTIMIZERS"

cdef dict optimizer_numbers = {
    OPTIMIZER_TABLE[k].name.decode(): k for k in range(N_OPTIMIZERS)
}


cdef inline Py_ssize_t slots_of(const Rule* rule) noexcept nogil:
    """Return the rows of optimiser state."""
    return rule.optimizer.slots if rule.optimizer != NULL else 0


cdef inline double rate_of(const Job* job, Py_ssize_t layer, bint biases) noexcept nogil:
    """Return the learning rate of a layer's weights or biases in the current iteration."""
    if job.n_rates == 1:
        return job.rates[job.done * job.rate_step]
    return job.rates[job.done * job.rate_step + 2 * layer + biases]


cdef void begin_update(Job* job, const Job* like, double total) noexcept nogil:
    """Set the penalty and Adam's corrections for an iteration.

    ``total`` is that of the weights of the batch. ``like`` is a job at the same iteration, or NULL;
    its corrections are copied if they are equal, which saves calls of pow.
    """
    cdef double t = <double>(job.step + job.done + 1)
    job.l2 = job.rule.l2
    if job.rule.l2_by_batch and total > 0:
        job.l2 /= total
    if job.rule.optimizer == NULL or not job.rule.optimizer.corrects:
        return
    if like != NULL and like.rule.beta1 == job.rule.beta1 and like.rule.beta2 == job.rule.beta2:
        job.correction1 = like.correction1
        job.correction2 = like.correction2
    else:
        job.correction1 = 1 - pow(job.rule.beta1, t)
        job.correction2 = sqrt(1 - pow(job.rule.beta2, t))


cdef bint update_rows(
    const real* theta, const real* g, Py_ssize_t g_step, const Job* job, Py_ssize_t start,
    Py_ssize_t step, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t layer, bint biases,
) noexcept nogil:
    """Write ``rows`` of ``n`` updated parameters; return whether one is not a finite number.

    They are weights or biases of one layer: rows ``step`` apart, the first of which begins at
    ``start``. ``g`` is the gradient of the first row; the others are ``g_step`` apart. Penalties
    apply to weights only. A rate of 0 leaves the parameters exactly as they are.
    """
    cdef const Optimizer* optimizer = job.rule.optimizer
    cdef real* first = NULL
    cdef real* second = NULL
    cdef real settings[N_SETTINGS]
    cdef bint nonfinite = False, frozen = rate_of(job, layer, biases) == 0
    if g_step == n and step == n:
        # Without gaps between them, all rows are updated as one.
        n *= rows
        rows = 1
    fixed_settings(job, 1, &settings[0])
    settings_of_iteration(job, layer, biases, 1, &settings[0])
    while rows > 0:
        if optimizer.slots > 0:
            first = <real*>job.state + start
        if optimizer.slots > 1:
            second = <real*>job.state + job.n_parameters + start
        if real is float:
            nonfinite |= optimizer.float_range(
                n, theta + start, <real*>job.next_theta + start, g, &settings[0], first, second
            )
        else:
            nonfinite |= optimizer.double_range(
                n, theta + start, <real*>job.next_theta + start, g, &settings[0], first, second
            )
        if frozen:
            memcpy(<real*>job.next_theta + start, theta + start, n * sizeof(real))
        start += step
        g += g_step
        rows -= 1
    return nonfinite and not frozen


cdef inline bint update_range(
    const real* theta, const real* g, const Job* job, Py_ssize_t start, Py_ssize_t n,
    Py_ssize_t layer, bint biases,
) noexcept nogil:
    """Update consecutive parameters of one layer, as :func:`update_rows` does."""
    return update_rows(theta, g, n, job, start, n, 1, n, layer, biases)


cdef bint update_all(
    const real* theta, const real* g, const Shape* shape, const Job* job,
) noexcept nogil:
    """Update every parameter by the whole gradient."""
    cdef Py_ssize_t layer, at, n
    cdef bint nonfinite = False
    if job.n_rates == 1 and job.rule.l2 == 0 and job.rule.weight_decay == 0:
        # Weights and biases have the same settings.
        return update_range(theta, g, job, 0, shape.n_parameters, 0, False)
    for layer in range(shape.n_layers):
        at = shape.weights_at[layer]
        n = shape.sizes[layer + 1] * shape.sizes[layer]
        nonfinite |= update_range(theta, g + at, job, at, n, layer, False)
        if shape.bias:
            at += n
            nonfinite |= update_range(theta, g + at, job, at, shape.sizes[layer + 1], layer, True)
    return nonfinite


cdef void fixed_settings(const Job* job, Py_ssize_t step, real* settings) noexcept nogil:
    """Write the settings that are the same in all iterations; they are ``step`` apart."""
    cdef const Rule* rule = &job.rule
    settings[KEEP * step] = <real>1
    settings[EPSILON * step] = <real>rule.epsilon
    settings[BETA1 * step] = <real>rule.beta1
    settings[BETA2 * step] = <real>rule.beta2
    settings[REST1 * step] = <real>(1 - rule.beta1)
    settings[REST2 * step] = <real>(1 - rule.beta2)
    settings[NESTEROV * step] = <real>rule.nesterov
    settings[GAIN * step] = <real>1


cdef void settings_of_iteration(
    const Job* job, Py_ssize_t layer, bint biases, Py_ssize_t step, real* settings
) noexcept nogil:
    """Write the settings that depend on the iteration."""
    cdef double rate = rate_of(job, layer, biases)
    settings[L2 * step] = <real>(0 if biases else job.l2)
    if job.rule.weight_decay > 0 and not biases:
        settings[KEEP * step] = <real>(1 - rate * job.rule.weight_decay)
    if job.rule.optimizer.corrects:
        rate /= job.correction1
        if job.rule.epsilon_hat:
            # The correction of the root moves to the rate.
            rate *= job.correction2
            settings[ROOT * step] = <real>1
        else:
            settings[ROOT * step] = <real>(1 / job.correction2)
    elif job.rule.rate_in_velocity:
        settings[GAIN * step] = <real>rate
        rate = 1 if rate > 0 else 0
    settings[RATE * step] = <real>rate


cdef inline void update_lanes(
    const Optimizer* optimizer, int product, Py_ssize_t rows, Py_ssize_t n, real* p,
    const real* g, const real* d, const real* settings, real* nonfinite, real* first,
    real* second,
) noexcept nogil:
    """Update parameters of a register of networks in place, as :func:`update_range` does.

    They are ``n`` parameters of gradient ``g``, or ``rows`` units with ``n`` weights each, of
    gradient ``d * g`` for the inputs ``g`` of a single example.
    """
    if real is float:
        optimizer.float_lanes[product](rows, n, p, g, d, settings, nonfinite, first, second)
    else:
        optimizer.double_lanes[product](rows, n, p, g, d, settings, nonfinite, first, second)
