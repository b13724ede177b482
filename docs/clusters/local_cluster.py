"""Train on a Dask cluster; LocalCluster stands for any of Dask's clusters."""

from dask.distributed import Client, LocalCluster

import fastinit as fi


def main():
    """Run the comparison."""
    X, Y, X_test, Y_test = fi.lesson.load_dataset()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        result = fi.compare(
            X, Y, fi.Network([2, 10, 5, 1]), ["he_normal", "glorot_uniform"],
            test=(X_test, Y_test), seed=range(12), learning_rate=0.1, iterations=500,
            executor=client, store="runs.sqlite",
        )  # fmt: skip
    print(result.ranking().answer)


if __name__ == "__main__":
    main()
