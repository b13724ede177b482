"""The threads of BLAS while SciPy's L-BFGS calls the kernels."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import Any

_limited = Lock()


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread, if threadpoolctl is installed.

    The vectors of L-BFGS are short: waiting threads of BLAS take the cores from the kernels, which
    made trainings of small networks 5 to 20 times as long on cores that other processes used.

    The limit holds for the process. Only one thread sets it at a time and sets it back: a thread
    that begins later would take the limit for the setting of the user, and set that back.
    """
    if not _limited.acquire(blocking=False):
        yield
        return
    try:
        with _limit():
            yield
    finally:
        _limited.release()


def _limit() -> AbstractContextManager[Any]:
    try:
        controller = _controller()
    except ImportError:
        return nullcontext()
    limit: AbstractContextManager[Any] = controller.limit(limits=1, user_api="blas")
    return limit


@cache
def _controller() -> Any:
    """Return the controller of BLAS; it takes milliseconds to create."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
