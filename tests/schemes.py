"""The schemes, and a shape for each."""

from fastinit import initializers

LESSON = ("lesson.random", "lesson.he")
CONVOLUTIONS = ("dirac", "delta_orthogonal")
SHAPES = {name: (6, 4, 3, 3) if name in CONVOLUTIONS else (6, 4) for name in initializers.names()}
OURS = [name for name in initializers.names() if name not in LESSON]
