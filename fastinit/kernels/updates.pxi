# Updates of parameters and optimiser state. ``next_theta`` is written beside ``theta`` and takes
# its place if all its numbers are finite; state is updated in place.

cdef extern from "lanes.h":
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
        IS_NESTEROV
        N_SETTINGS
    void float_descend_lanes(
        long long n, float* p, const float* g, const float* d, bint scalars,
        const float* settings,
        float* nonfinite) noexcept nogil
    void double_descend_lanes(
        long long n, double* p, const double* g, const double* d, bint scalars,
        const double* settings,
        double* nonfinite) noexcept nogil
    void float_momentum_lanes(
        long long n, float* p, const float* g, const float* d, bint scalars,
        const float* settings,
        float* nonfinite, float* first) noexcept nogil
    void double_momentum_lanes(
        long long n, double* p, const double* g, const double* d, bint scalars,
        const double* settings,
        double* nonfinite, double* first) noexcept nogil
    void float_adam_lanes(
        long long n, float* p, const float* g, const float* d, bint scalars,
        const float* settings,
        float* nonfinite, float* first, float* second) noexcept nogil
    void double_adam_lanes(
        long long n, double* p, const double* g, const double* d, bint scalars,
        const double* settings,
        double* nonfinite, double* first, double* second) noexcept nogil


cdef inline double rate_of(const Job* job, Py_ssize_t layer, bint biases) noexcept nogil:
    """The learning rate of a layer's weights or biases in the present iteration."""
    if job.n_rates == 1:
        return job.rates[job.done * job.rate_step]
    return job.rates[job.done * job.rate_step + 2 * layer + biases]


cdef void begin_update(Job* job, const Job* like) noexcept nogil:
    """Set what an iteration's updates have in common; ``like`` is a job that has it, or NULL."""
    cdef double t = <double>(job.step + job.done + 1)
    if job.rule.kind != ADAM:
        return
    if (
        like != NULL and like.rule.beta1 == job.rule.beta1 and like.rule.beta2 == job.rule.beta2
        and like.done == job.done
    ):
        job.correction1 = like.correction1
        job.correction2 = like.correction2
    else:
        job.correction1 = 1 - pow(job.rule.beta1, t)
        job.correction2 = sqrt(1 - pow(job.rule.beta2, t))


cdef bint update_range(
    const real* theta, const real* g, const Job* job, Py_ssize_t start, Py_ssize_t n,
    Py_ssize_t layer, bint biases,
) noexcept nogil:
    """Write ``n`` parameters after their update; return whether one is not a finite number.

    They belong to the weights or biases of one layer; penalties apply to weights alone. ``g`` is
    the gradient of the first of them. A rate of 0 leaves the parameters exactly as they are.
    """
    cdef const Rule* rule = &job.rule
    cdef const real* p = theta + start
    cdef real* out = <real*>job.next_theta + start
    cdef real* first = NULL
    cdef real* second = NULL
    cdef double learning_rate = rate_of(job, layer, biases)
    cdef real rate = <real>learning_rate
    cdef real l2 = <real>(0 if biases else rule.l2)
    cdef real keep = <real>(1 if biases else 1 - learning_rate * rule.weight_decay)
    cdef real beta1 = <real>rule.beta1, beta2 = <real>rule.beta2, epsilon = <real>rule.epsilon
    cdef real rest1 = <real>(1 - rule.beta1), rest2 = <real>(1 - rule.beta2)
    cdef real root, x, d, v
    cdef Py_ssize_t k
    cdef int64_t nonfinite = 0
    if rule.kind != GRADIENT_DESCENT:
        first = <real*>job.state + start
    # The difference of a number to itself is 0 for finite numbers and NaN for all others.
    if rule.kind == GRADIENT_DESCENT:
        for k in range(n):
            x = p[k] - rate * (g[k] + l2 * p[k])
            out[k] = x
            nonfinite += x - x != 0
    elif rule.kind == MOMENTUM:
        for k in range(n):
            v = beta1 * first[k] + (g[k] + l2 * p[k])
            first[k] = v
            x = p[k] - rate * v
            out[k] = x
            nonfinite += x - x != 0
    elif rule.kind == NESTEROV:
        for k in range(n):
            d = g[k] + l2 * p[k]
            v = beta1 * first[k] + d
            first[k] = v
            x = p[k] - rate * (d + beta1 * v)
            out[k] = x
            nonfinite += x - x != 0
    elif rule.kind == ADAM:
        second = <real*>job.state + job.n_parameters + start
        rate = <real>(learning_rate / job.correction1)
        root = <real>(1 / job.correction2)
        for k in range(n):
            d = g[k] + l2 * p[k]
            v = first[k] + rest1 * (d - first[k])
            first[k] = v
            d = beta2 * second[k] + rest2 * (d * d)
            second[k] = d
            x = keep * p[k] - rate * v / (<real>sqrt(d) * root + epsilon)
            out[k] = x
            nonfinite += x - x != 0
    if learning_rate == 0:
        memcpy(out, p, n * sizeof(real))
        return False
    return nonfinite != 0


cdef bint update_all(
    const real* theta, const real* g, const Shape* shape, const Job* job,
) noexcept nogil:
    """Update every parameter by the whole gradient."""
    cdef Py_ssize_t layer, at, n
    cdef bint nonfinite = False
    if job.n_rates == 1 and job.rule.l2 == 0 and job.rule.weight_decay == 0:
        # Weights and biases alike: one loop.
        return update_range(theta, g, job, 0, shape.n_parameters, 0, False)
    for layer in range(shape.n_layers):
        at = shape.weights_at[layer]
        n = shape.sizes[layer + 1] * shape.sizes[layer]
        nonfinite |= update_range(theta, g + at, job, at, n, layer, False)
        if shape.bias:
            at += n
            nonfinite |= update_range(theta, g + at, job, at, shape.sizes[layer + 1], layer, True)
    return nonfinite


cdef void fixed_settings(const Job* job, bint biases, Py_ssize_t v, real* settings) noexcept nogil:
    """Write what does not change from one iteration to the next into a network's lane."""
    cdef const Rule* rule = &job.rule
    settings[L2 * MOST_LANES + v] = <real>(0 if biases else rule.l2)
    settings[KEEP * MOST_LANES + v] = <real>1
    settings[EPSILON * MOST_LANES + v] = <real>rule.epsilon
    settings[BETA1 * MOST_LANES + v] = <real>rule.beta1
    settings[BETA2 * MOST_LANES + v] = <real>rule.beta2
    settings[REST1 * MOST_LANES + v] = <real>(1 - rule.beta1)
    settings[REST2 * MOST_LANES + v] = <real>(1 - rule.beta2)
    settings[IS_NESTEROV * MOST_LANES + v] = <real>(rule.kind == NESTEROV)


cdef void settings_of_iteration(
    const Job* job, Py_ssize_t layer, bint biases, Py_ssize_t v, real* settings
) noexcept nogil:
    cdef double rate = rate_of(job, layer, biases)
    if job.rule.weight_decay > 0 and not biases:
        settings[KEEP * MOST_LANES + v] = <real>(1 - rate * job.rule.weight_decay)
    if job.rule.kind == ADAM:
        rate /= job.correction1
        settings[ROOT * MOST_LANES + v] = <real>(1 / job.correction2)
    settings[RATE * MOST_LANES + v] = <real>rate


cdef inline void update_lanes_by(
    Kind kind, Py_ssize_t n, real* p, const real* g, const real* d, bint scalars,
    const real* settings, real* nonfinite, real* first, real* second,
) noexcept nogil:
    if real is float:
        if kind == GRADIENT_DESCENT:
            float_descend_lanes(n, p, g, d, scalars, settings, nonfinite)
        elif kind == ADAM:
            float_adam_lanes(n, p, g, d, scalars, settings, nonfinite, first, second)
        else:
            float_momentum_lanes(n, p, g, d, scalars, settings, nonfinite, first)
    else:
        if kind == GRADIENT_DESCENT:
            double_descend_lanes(n, p, g, d, scalars, settings, nonfinite)
        elif kind == ADAM:
            double_adam_lanes(n, p, g, d, scalars, settings, nonfinite, first, second)
        else:
            double_momentum_lanes(n, p, g, d, scalars, settings, nonfinite, first)


cdef void update_lanes(
    Kind kind, Py_ssize_t n, real* p, const real* g, const real* settings,
    real* nonfinite, real* first, real* second,
) noexcept nogil:
    """:func:`update_range` for a register of networks, in place; ``n`` parameters of each."""
    update_lanes_by(
        kind, n, p, g, <const real*>NULL, False, settings, nonfinite, first, second
    )


cdef void update_lanes_of_row(
    Kind kind, Py_ssize_t n, real* p, const real* A, const real* d, bint scalars,
    const real* settings, real* nonfinite, real* first, real* second,
) noexcept nogil:
    """The same for the weights of a unit and one example, whose gradient is ``d * A``."""
    if scalars:
        update_lanes_by(kind, n, p, A, d, True, settings, nonfinite, first, second)
    else:
        update_lanes_by(kind, n, p, A, d, False, settings, nonfinite, first, second)
