"""Train in several processes of one computer."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import fastinit as fi


def main():
    """Run the comparison."""
    X, Y, X_test, Y_test = fi.lesson.load_dataset()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        result = fi.compare(
            X, Y, fi.Network([2, 10, 5, 1]), ["he_normal", "glorot_uniform"],
            test=(X_test, Y_test), seed=range(12), learning_rate=0.1, iterations=500,
            executor=executor, store="runs.sqlite",
        )  # fmt: skip
    print(result.ranking().answer)


# Each process imports this file; without this line, each would start processes of its own.
if __name__ == "__main__":
    main()
