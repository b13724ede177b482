# Threads: a team runs the jobs of one call, helpers are the threads that it is made of.

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
    void team_release(Team* team) noexcept nogil
    long counter_load(counter* c) noexcept nogil
    void counter_store(counter* c, long x) noexcept nogil
    long counter_next(counter* c) noexcept nogil


# Neither a name of the module nor something to pickle: it holds a thread's locks.
@cython.internal
@cython.auto_pickle(False)
cdef class Helper:
    """A thread that does one task after the other, and sleeps in between."""

    cdef Py_ssize_t rank
    cdef object task, start, end

    def serve(self):
        """Do what comes until it is None."""
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
    """The helpers of one run, which end with it.

    A thread that wakes up continues on the core that it was on, while a new one may be started on
    the core of its parent and stay there for milliseconds. They are started below the module
    ``threading``, between whose lines an interrupt could fall.
    """

    cdef list helpers
    cdef object process

    cdef list acquire(self, Py_ssize_t n):
        """Return up to ``n`` helpers, as many as threads can be started."""
        cdef Helper helper
        if self.process != os.getpid():    # also after a fork, which leaves the threads behind
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


cdef object done_by_all(list helpers, task, interrupt):
    """Do ``task(rank)`` here and on all helpers; when all are back, return Ctrl-C if it came.

    It waits that long because a team would wait for ever for a member that left. ``interrupt()`` is
    called at once when Ctrl-C comes, and lets the others return early.
    """
    cdef Helper helper
    error = None
    for helper in helpers:
        helper.task = task
        helper.start.release()
    task(0)
    for helper in helpers:
        while True:
            try:
                helper.end.acquire()
                break
            except BaseException as found:
                error = found
                interrupt()
    return error
