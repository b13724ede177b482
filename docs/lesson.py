"""The lesson: one network from three initialisations.

Cells of ``# %%`` run one by one in an editor that knows them (VS Code, Spyder, PyCharm, Jupyter by
way of jupytext), and all at once with ``python docs/lesson.py``.
"""

# %% [markdown]
# # What does the initialisation do?
#
# Two noisy circles, 300 points; a network of layers 2-10-5-1, ReLU, ReLU, sigmoid; plain gradient
# descent. Only the weights it starts from differ.

# %%
import matplotlib.pyplot as plt

import fastinit as fi
from fastinit.comparison import plots

X, Y, X_test, Y_test = fi.lesson.load_dataset()
net = fi.Network([2, 10, 5, 1])
plots.examples(X, Y).set(title="Training data", aspect="equal")
plt.show()

# %% [markdown]
# ## Three starting points
#
# *Zeros*; *large random* weights, ten times a standard normal; and *He* weights, of variance
# 2 / fan_in. What each of them does shows before any training.

# %%
seeds = {"zeros": 0, "lesson.random": 3, "lesson.he": 3}
starts = {scheme: net.initialize(scheme, seed=seed) for scheme, seed in seeds.items()}
for scheme, theta in starts.items():
    print(f"{scheme}: {fi.propagation.measure(net, theta, X, Y).verdict}\n")

# %% [markdown]
# ## Train
#
# 15,000 iterations each. `train` works in place, so it gets a copy.

# %%
runs = {
    scheme: fi.train(net, theta.copy(), X, Y, learning_rate=0.01, iterations=15_000)
    for scheme, theta in starts.items()
}
for scheme, run in runs.items():
    train, test = (net.accuracy(run.theta, *data) for data in ((X, Y), (X_test, Y_test)))
    print(f"{scheme:14}  cost {run.final_cost:.4f}  train {train:.1%}  test {test:.1%}")

# %%
plots.cost_bands({scheme: run.costs[None] for scheme, run in runs.items()})
plt.show()

# %%
plt.figure(figsize=(12, 4), layout="constrained")
plots.boundaries(runs, X, Y)
plt.show()

# %% [markdown]
# ## What to take away
#
# - **Zeros** break no symmetry: all units of a layer are copies of one and stay so. The cost stays
#   at ln 2, which is guessing.
# - **Large random** weights break it, but blow the signal up: the first outputs are sure and often
#   wrong, the cost begins in the thousands, and the training ends in a worse place.
# - **He** weights keep signal and gradient at their size, and the network learns.
#
# ## Along the training
#
# The same look, while it learns: how the gradient spreads over the layers.

# %%
marks = [0, 100, 1000, 15_000]
start = starts["lesson.he"].copy()
_, snapshots = fi.propagation.along(net, start, X, Y, at=marks, learning_rate=0.01)
plots.profiles({f"iteration {i}": each for i, each in snapshots.items()}, quantity="gradient")
plt.show()
