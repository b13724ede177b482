# Threads: a team runs the jobs of one call; helpers are its threads beside the caller.

cdef extern from "team.h":
    ctypedef long counter
    ctypedef struct Team:
        long size
        counter task
        counter arrived
        counter phase
        counter nonfinite
        long job
        long leaving
    long team_take(Team* team) noexcept nogil
    bint team_arrive(Team* team) noexcept nogil
    ctypedef struct Wait:
        long turns
        long long since
    bint team_waits(Team* team, Wait* wait) noexcept nogil
    void team_release(Team* team) noexcept nogil
    long counter_load(counter* c) noexcept nogil
    void counter_store(counter* c, long x) noexcept nogil
    long counter_next(counter* c) noexcept nogil


# What each thread runs. It is a C function, which Python code cannot call: it relies on memory that
# is laid out when a call begins.
ctypedef void (*Task)(object owner, Py_ssize_t rank) noexcept


# Not visible to Python, and not to be pickled: it holds the locks of a thread.
@cython.internal
@cython.auto_pickle(False)
cdef class Helper:
    """A thread that runs one task after the other and sleeps in between."""

    cdef Py_ssize_t rank
    cdef Task task
    cdef object owner, start, end

    def serve(self):
        """Run tasks until there is no owner."""
        self.start.acquire()
        while self.owner is not None:
            self.task(self.owner, self.rank)
            self.owner = None
            self.end.release()
            self.start.acquire()


# As above: threads cannot be pickled.
@cython.internal
@cython.auto_pickle(False)
cdef class Helpers:
    """The helpers of one run, which end with it.

    They are kept, because a thread that wakes up continues on its core, while a new one may be
    started on the core of its parent and stay there for milliseconds. They are started with
    ``_thread``, because Ctrl-C could interrupt the Python code of ``threading`` at any line.
    """

    cdef list helpers
    cdef object process

    cdef list acquire(self, Py_ssize_t n):
        """Return up to ``n`` helpers, as many as threads can be started."""
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
            helper.owner = None
            helper.start.release()


cdef object done_by_all(list helpers, Task task, owner, counter* interrupted, bint alone):
    """Run ``task(owner, rank)`` here and on all helpers; return the exception of Ctrl-C, or None.

    It returns when all have returned, because a team would wait forever for a member that left.
    ``interrupted`` is set at once on Ctrl-C, and lets the others return early. If ``alone``, no
    rank waits for another, and helpers that have not woken up when this one is done stay asleep.
    """
    cdef Helper helper
    error = None
    for helper in helpers:
        helper.task = task
        helper.owner = owner
        helper.start.release()
    task(owner, 0)
    for helper in helpers:
        if alone and helper.start.acquire(False):
            helper.owner = None
            continue
        while True:
            try:
                helper.end.acquire()
                break
            except BaseException as found:
                error = found
                counter_store(interrupted, 1)
    return error
