"""The estimators: scikit-learn's interface around :mod:`fastinit.sklearn.descent`."""

from collections.abc import Iterable
from itertools import pairwise
from math import nan
from numbers import Integral
from typing import Any, Self

import numpy as np
import sklearn
import sklearn.neural_network
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from fastinit.kernels import dense
from fastinit.sklearn import parameters
from fastinit.sklearn.descent import (
    Examples,
    Pace,
    checked_csr,
    loss_and_gradient,
    rows_at_once,
    without_damage,
)
from fastinit.sklearn.jobs import (
    Job,
    Prepared,
    checked_weights,
    forward,
    quality,
    run_all,
    threads_of,
)
from fastinit.training.network import Network

Array = NDArray[Any]

# The output and the loss of the kernels for each of scikit-learn's output activations.
OUTPUTS = {
    "softmax": ("softmax", "clipped_softmax_cross_entropy"),
    "logistic": ("sigmoid", "clipped_sigmoid_cross_entropy"),
    "identity": ("identity", "squared_error"),
    "exp": ("exponential", "poisson"),
}
FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


def is_plain(X: Any) -> bool:
    """Whether scikit-learn's checks would return this array unchanged."""
    if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in FLOATS or X.size == 0:
        return False
    return dense.all_finite(X) if X.flags.c_contiguous else bool(np.isfinite(X).all())


def _order_of(sizes: Iterable[int]) -> NDArray[np.intp]:
    """Return where the kernels keep each of scikit-learn's packed parameters."""
    weights, biases, at = [], [], 0
    for n_in, n_out in pairwise(sizes):
        weights.append((at + np.arange(n_in * n_out).reshape(n_out, n_in)).T.ravel())
        biases.append(at + n_in * n_out + np.arange(n_out))
        at += (n_in + 1) * n_out
    return np.concatenate([*weights, *biases])


class _MLP(BaseEstimator):  # type: ignore[misc]
    """What the classifier and the regressor share."""

    _theirs: Any
    _parameter_names: Any
    # The HTML repr shows the documentation of parameters only with a link to a page.
    _doc_link_module = "fastinit"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {
            "estimator_module": "sklearn.neural_network",
            "estimator_name": type(self).__name__,
        }

    @classmethod
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature at every call, which was half of the time of a clone.
        if "_parameter_names" not in cls.__dict__:
            cls._parameter_names = super()._get_param_names()
        return cls._parameter_names

    # --- parameters as arrays ---------------------------------------------------------------------

    def _network(self, dtype: Any) -> Network:
        """Return the network of the fitted parameters."""
        sizes = [len(self.coefs_[0]), *[W.shape[1] for W in self.coefs_]]
        return self._network_of(sizes, dtype)

    def _network_of(self, sizes: list[int], dtype: Any) -> Network:
        key = (tuple(sizes), self.activation, self.out_activation_, np.dtype(dtype))
        kept = self.__dict__.get("_kept_network")
        if kept is None or kept[0] != key:
            output, loss = OUTPUTS[self.out_activation_]
            network = Network(
                sizes,
                activation=str(parameters.KERNEL_NAMES.get(self.activation, self.activation)),
                output=output,
                loss=loss,
                dtype=np.dtype(dtype).name,
            )
            kept = self._kept_network = (key, network)
        return kept[1]

    def _set_theta(self, theta: Array) -> None:
        """Make ``coefs_`` and ``intercepts_`` views of ``theta``."""
        views = self._network(theta.dtype).unpack(theta) if hasattr(self, "coefs_") else {}
        n = len(views) // 2
        self.coefs_ = [views[f"W{k}"].T for k in range(1, n + 1)]
        self.intercepts_ = [views[f"b{k}"][:, 0] for k in range(1, n + 1)]
        self._theta, self._views = theta, (*self.coefs_, *self.intercepts_)

    def _get_theta(self) -> Array:
        """Return the parameters, in the order of the kernels; users may have set others."""
        arrays = (*self.coefs_, *self.intercepts_)
        views = self.__dict__.get("_views", ())
        if len(views) == len(arrays) and all(a is b for a, b in zip(views, arrays, strict=True)):
            return self._theta
        n = len(self.coefs_)
        tensors = [
            np.ravel(each)
            for W, b in zip(self.coefs_, self.intercepts_, strict=True)
            for each in (np.asarray(W).T, b)
        ]
        assert len(tensors) == 2 * n
        theta: Array = np.concatenate(tensors)
        return theta if theta.dtype == np.float32 else theta.astype(np.float64, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if state.get("_best_theta") is not None and state["_best_theta"] is state.get("_theta"):
            state["_best_theta"] = "theta"
        for name in ("_theta", "_views", "_kept_network"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "coefs_" in state:
            self._set_theta(self._get_theta())
            if isinstance(state.get("_best_theta"), str):
                self._best_theta = self._theta

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")

    # --- fitting ----------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values (class labels in classification, real numbers in regression).
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        parameters.check(self, self._theirs)
        return self._fit(X, y, sample_weight, incremental=False)

    def _is_stochastic(self) -> bool:
        if isinstance(self.solver, str) and self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic"
                f" optimizers. {self.solver} is not stochastic."
            )
        return True

    def _hidden(self) -> list[Any]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        for size in sizes:
            if not isinstance(size, Integral):
                raise TypeError(
                    f"{type(size).__name__!r} object cannot be interpreted as an integer"
                )
        return [int(size) for size in sizes]

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        hidden = self._hidden()
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y, targets = self._validate(X, y, incremental, first)
        weights = None if sample_weight is None else checked_weights(sample_weight, X)
        prepared = Prepared(self, X, y, targets, weights, hidden, first, incremental)
        if self.n_networks == 1 and (self.n_init == 1 or incremental):
            self.__dict__.pop("networks_", None)
            job = Job(self, prepared, threads_of(self))
            job.run()
            job.finish()
            return self
        return self._fit_stack(prepared)

    def _fit_stack(self, prepared: "Prepared") -> Self:
        """Train several networks at once, and keep the best start of each.

        Networks that are trained further have one start.
        """
        n_init = 1 if prepared.incremental or not prepared.first else self.n_init
        if prepared.first:
            random_state = check_random_state(self.random_state)
            n = self.n_networks * n_init
            seeds = random_state.randint(np.iinfo(np.int32).max, size=n).tolist()
            starts = [self._copy(seed) for seed in seeds]
        else:
            starts = getattr(self, "networks_", [])
            if len(starts) != self.n_networks:
                fitted = f"{len(starts)} networks were" if starts else "1 network was"
                raise ValueError(f"n_networks is {self.n_networks}, but {fitted} fitted before")
            for each in starts:
                each.set_params(**self._shared(each.random_state))
        jobs = [Job(each, prepared, 1) for each in starts]
        for job in list(run_all(jobs, threads_of(self))):
            job.finish()
        groups = [starts[k : k + n_init] for k in range(0, len(starts), n_init)]
        best = [max(group, key=quality) for group in groups]
        for name, value in vars(best[0]).items():
            if name.endswith("_") or (name.startswith("_") and not name.startswith("__")):
                setattr(self, name, value)
        if self.n_networks > 1:
            self.networks_ = best
        else:
            self.__dict__.pop("networks_", None)
        return self

    def _shared(self, seed: int) -> dict[str, Any]:
        """Return the parameters of an estimator of one network."""
        values = self.get_params(deep=False)
        return {**values, "n_networks": 1, "n_init": 1, "random_state": seed}

    def _copy(self, seed: int) -> Any:
        """Return an estimator of one network with the same parameters and targets."""
        other = type(self)(**self._shared(seed))
        for name in ("classes_", "_label_binarizer", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(other, name, getattr(self, name))
        return other

    def _loss_grad_lbfgs(
        self, packed_coef_inter: Array, X: Any, y: Any, sample_weight: Any, *scratch: Any
    ) -> tuple[float, Array]:
        """Return the loss and its gradient in scikit-learn's order of the parameters."""
        shapes = [W.shape for W in self.coefs_]
        sizes = [shapes[0][0], *[shape[1] for shape in shapes]]
        network = self._network_of(sizes, np.float64)
        theta = np.empty(network.n_parameters)
        order = _order_of(sizes)
        theta[order] = packed_coef_inter
        Y = np.ascontiguousarray(np.reshape(y, (len(y), -1)).T, np.float64)
        gradient = np.empty_like(theta)
        loss = loss_and_gradient(
            network.layout, theta, Examples(X, Y, sample_weight), network._is_weight,
            float(self.alpha), self._n_in_loss(), Pace(threads_of(self)), gradient,
        )  # fmt: skip
        return loss, gradient[order]

    def _n_in_loss(self) -> int:
        """Return the number of outputs that scikit-learn's loss is averaged over."""
        return self.n_outputs_ if self.out_activation_ == "identity" else 1

    # --- predicting -------------------------------------------------------------------------------

    def _checked(self, X: Any) -> Any:
        """Return X after scikit-learn's checks, which plain arrays pass without being called."""
        if (
            is_plain(X)
            and X.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
        ):
            return X
        # scikit-learn converts sparse matrices of other formats, and SciPy trusts their indices.
        return validate_data(self, without_damage(X), accept_sparse=["csr", "csc"], reset=False)

    def _each(self, X: Any) -> Array:
        """Return the outputs of each network for checked features, (n, n_samples, n_outputs)."""
        networks = self.__dict__.get("networks_") or [self]
        thetas = [each._get_theta() for each in networks]
        dtype: np.dtype[Any] = np.dtype(np.float32)
        if X.dtype != dtype or thetas[0].dtype != dtype:
            dtype = np.dtype(np.float64)
        layout = self._network(dtype).layout
        stack = (thetas[0][None] if len(thetas) == 1 else np.stack(thetas)).astype(
            dtype, copy=False
        )
        out: Array = np.empty((len(thetas), X.shape[0], layout.sizes[-1]), dtype)
        columns = out.transpose(0, 2, 1)
        threads = threads_of(self)
        if isinstance(X, np.ndarray):
            forward(layout, stack, X.astype(dtype, copy=False).T, columns, threads)
            return out
        X = checked_csr(X)
        step = rows_at_once(X.shape[1], dtype)
        for start in range(0, X.shape[0], step):
            rows = X[start : start + step].toarray().astype(dtype, copy=False)
            forward(layout, stack, rows.T, columns[:, :, start : start + len(rows)], threads)
        return out

    def _mean(self, each: Array) -> Array:
        """Return the mean of the outputs of the networks, (n_samples, n_outputs)."""
        mean: Array = each[0] if len(each) == 1 else each.mean(axis=0)
        return mean

    # --- what the subclasses define ---------------------------------------------------------------

    def _validate(self, X: Any, y: Any, incremental: bool, first: bool) -> tuple[Any, Any, Array]:
        """Return checked X and y, and the targets of the outputs, (n_samples, n_outputs)."""
        raise NotImplementedError

    def _score_of(self, outputs: Array, Y: Array, weights: Array | None) -> float:
        """Return scikit-learn's validation score of outputs (n_outputs, n_samples)."""
        raise NotImplementedError

    def _output_activation(self) -> str:
        raise NotImplementedError


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron classifier; scikit-learn's, trained by the kernels of fastinit.

    The parameters, attributes and numbers are those of
    :class:`sklearn.neural_network.MLPClassifier`, which documents them in more detail; those from
    `initialization` on are additions.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer.
    activation : str, default="relu"
        Activation of the hidden layers: "identity", "logistic", "tanh" or "relu", and in addition
        to scikit-learn's "leaky_relu", "gelu", "silu" and "selu".
    solver : str or Optimizer, default="adam"
        "lbfgs", "sgd" or "adam". In addition "adamw", whose weight decay is `alpha`, and the
        optimisers of fastinit other than LBFGS, whose own settings replace `alpha`,
        `learning_rate` and those of the solvers.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights. The penalty is divided by the number of samples
        of a batch.
    batch_size : int or "auto", default="auto"
        Number of samples per update of the stochastic solvers; "auto" is
        ``min(200, n_samples)``.
    learning_rate : str or callable, default="constant"
        For "sgd", "constant", "invscaling" or "adaptive". In addition a schedule: a callable that
        takes the number of the update, from 0, and returns the learning rate, such as
        :class:`fastinit.Cosine`. It applies to all stochastic solvers.
    learning_rate_init : float, default=0.001
        Learning rate, or its first value, of the stochastic solvers.
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Largest number of epochs, or of iterations of "lbfgs".
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, of the validation split and of the order of the samples.
    tol : float, default=1e-4
        Smallest improvement of the loss, or of the validation score, that counts.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` continues from the parameters of the call before.
    momentum : float, default=0.9
        Momentum of "sgd", from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether the momentum of "sgd" is Nesterov's.
    early_stopping : bool, default=False
        Whether to set aside `validation_fraction` of the samples, and to stop when their score
        does not improve.
    validation_fraction : float, default=0.1
        Share of the samples that early stopping sets aside.
    beta_1 : float, default=0.9
        Decay rate of the first moment of "adam", in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the second moment of "adam", in [0, 1).
    epsilon : float, default=1e-8
        Added to the denominator of "adam" for numerical stability.
    n_iter_no_change : int, default=10
        Number of epochs in a row without an improvement by `tol` after which the training stops.
    max_fun : int, default=15000
        Largest number of evaluations of the loss by "lbfgs".
    initialization : str, callable or sequence, default="auto"
        "auto" draws weights and biases as scikit-learn does. Otherwise the name of an initialiser
        of :mod:`fastinit.initializers`, an initialiser, a ``functools.partial`` of one for other
        settings, a callable that fills ``out`` as in :meth:`fastinit.Network.initialize`, or a
        sequence with one of these for each layer.
    class_weight : dict, list of dict or "balanced", default=None
        Weights of the classes in the training, which multiply `sample_weight`. Multi-label targets
        take a list with one dict for each output.
    n_networks : int, default=1
        Number of networks of a deep ensemble [1]_, whose outputs are averaged.
    n_init : int, default=1
        Number of starts of each network. The one with the best validation score is kept, or with
        the lowest loss without `early_stopping`.
    threads : int, default=None
        Largest number of threads. None means all usable cores, but one inside a worker of joblib.
        Results do not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    coefs_ : list of ndarray of shape (n_in, n_out)
        The weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,)
        The biases of each layer.
    loss_ : float
        The loss of the last epoch.
    loss_curve_ : list of float
        The loss of each epoch. Of the stochastic solvers only.
    best_loss_ : float or None
        The lowest loss of an epoch; None with `early_stopping`.
    validation_scores_ : list of float or None
        Accuracy on the validation samples after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        The best of `validation_scores_`, whose parameters are kept; None without
        `early_stopping`.
    n_iter_ : int
        Number of epochs, or of iterations of "lbfgs".
    t_ : int
        Number of samples that the training has used, each counted once per epoch.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features. Exists if `X` has names that are strings.
    n_layers_ : int
        Number of layers, with those of the inputs and the outputs.
    n_outputs_ : int
        Number of outputs of the network.
    out_activation_ : str
        Activation of the outputs.
    networks_ : list of MLPClassifier
        The networks of an ensemble. Exists if `n_networks` is above 1; the other attributes are
        then those of the first network.

    References
    ----------
    .. [1] Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty
       estimation using deep ensembles", NeurIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastinit.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(initialization="he_normal", max_iter=1000, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    _theirs = sklearn.neural_network.MLPClassifier

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        initialization: Any = "auto",
        class_weight: Any = None,
        n_networks: Any = 1,
        n_init: Any = 1,
        threads: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.initialization = initialization
        self.class_weight = class_weight
        self.n_networks = n_networks
        self.n_init = n_init
        self.threads = threads

    @available_if(lambda estimator: estimator._is_stochastic())  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> "MLPClassifier":
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,)
            The target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        classes : array of shape (n_classes,), default=None
            Classes across all calls to partial_fit. Required in the first call.

        Returns
        -------
        self : object
            Trained MLP model.
        """
        parameters.check(self, self._theirs)
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is not None and known is not None:
            if not np.array_equal(known, classes) and not np.array_equal(
                known, unique_labels(classes)
            ):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call "
                    f"to partial_fit, was: {known!r}"
                )
        elif classes is not None:
            self.classes_ = unique_labels(classes)
            self._label_binarizer = LabelBinarizer()
            is_multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer.fit(y if is_multilabel else classes)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Predict using the multi-layer perceptron classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            The predicted classes.
        """
        check_is_fitted(self)
        outputs = self._mean(self._each(self._checked(X)))
        kind = self._label_binarizer.y_type_
        if kind == "multiclass":
            return self.classes_[outputs.argmax(axis=1)]  # type: ignore[no-any-return]
        if kind == "binary" and len(self.classes_) == 2:
            return self.classes_[(outputs[:, 0] > 0.5).astype(np.intp)]  # type: ignore[no-any-return]
        if outputs.shape[1] == 1:
            outputs = outputs.ravel()
        return self._label_binarizer.inverse_transform(outputs)  # type: ignore[no-any-return]

    def predict_proba(self, X: Any, return_std: bool = False) -> Any:
        """Probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        return_std : bool, default=False
            Whether to return the standard deviation over the networks of an ensemble too.

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            The probability of each class, in the order of ``classes_``.
        y_std : ndarray of shape (n_samples, n_classes)
            Returned if `return_std` is True.
        """
        check_is_fitted(self)
        each = self._each(self._checked(X))
        outputs = self._mean(each)
        is_binary = self.n_outputs_ == 1
        if is_binary:
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        if not return_std:
            return outputs
        spread = each.std(axis=0)
        return outputs, np.repeat(spread, 2, axis=1) if is_binary else spread

    def predict_log_proba(self, X: Any) -> Array:
        """Return the log of probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``.
        """
        y_prob = self.predict_proba(X)
        return np.log(y_prob, out=y_prob)  # type: ignore[no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _output_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _validate(self, X: Any, y: Any, incremental: bool, first: bool) -> tuple[Any, Any, Array]:
        if not first and not self.warm_start and self._knows(X, y):
            targets = self._encoded(y)
            if targets is not None:
                return X, y, targets
        X, y = validate_data(
            self, without_damage(X), without_damage(y), accept_sparse=["csr", "csc"],
            multi_output=True, dtype=(np.float64, np.float32), reset=first,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same "
                        "classes as in the previous call to fit. Previously "
                        f"got {self.classes_}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    "`y` has classes not in `self.classes_`. "
                    f"`self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        # The binarizer checks again what was checked above, which takes longer than many fits.
        targets = self._encoded(y)
        if targets is None:
            targets = self._label_binarizer.transform(y)
            targets = targets if isinstance(targets, np.ndarray) else targets.toarray()
        return X, y, targets.astype(bool, copy=False)

    def _knows(self, X: Any, y: Any) -> bool:
        """Whether the data are plain arrays of the features of the first call."""
        return (
            type(y) is np.ndarray
            and is_plain(X)
            and len(X) == len(y)
            and X.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on the given data and labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The true labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        score : float
            The share of the examples whose labels are all predicted.
        """
        if (
            sample_weight is None
            and hasattr(self, "coefs_")
            and self._knows(X, y)
            and y.ndim == 1
            and y.dtype.kind in "iu"
            and self.classes_.dtype.kind in "iu"
        ):
            # scikit-learn's checks of plain labels take longer than most predictions.
            return float(np.mean(self.predict(X) == y))
        return float(super().score(X, y, sample_weight))

    def _encoded(self, y: Array) -> Array | None:
        """Return the targets of integer labels, or None where others have to encode them."""
        classes = self.classes_
        if not (
            self._label_binarizer.y_type_ in ("binary", "multiclass")
            and y.ndim == 1
            and y.dtype.kind in "iu"
            and classes.dtype.kind in "iu"
            and len(classes) > 1
        ):
            return None
        codes = np.searchsorted(classes, y)
        codes[codes == len(classes)] = 0
        if (classes[codes] != y).any():
            return None
        targets: Array = codes[:, None] == (np.arange(len(classes)) if len(classes) > 2 else 1)
        return targets

    def _score_of(self, outputs: Array, Y: Array, weights: Array | None) -> float:
        if len(Y) == 1 or self.out_activation_ == "logistic":
            right = ((outputs > 0.5) == (Y > 0.5)).all(axis=0)
        else:
            right = outputs.argmax(axis=0) == Y.argmax(axis=0)
        return float(np.average(right, weights=weights))


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron regressor; scikit-learn's, trained by the kernels of fastinit.

    The parameters, attributes and numbers are those of
    :class:`sklearn.neural_network.MLPRegressor`, which documents them in more detail; those from
    `initialization` on are additions.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        Half the squared error, or half the Poisson deviance of outputs ``exp(z)``, which requires
        ``y >= 0``.
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer.
    activation : str, default="relu"
        Activation of the hidden layers: "identity", "logistic", "tanh" or "relu", and in addition
        to scikit-learn's "leaky_relu", "gelu", "silu" and "selu".
    solver : str or Optimizer, default="adam"
        "lbfgs", "sgd" or "adam". In addition "adamw", whose weight decay is `alpha`, and the
        optimisers of fastinit other than LBFGS, whose own settings replace `alpha`,
        `learning_rate` and those of the solvers.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights. The penalty is divided by the number of samples
        of a batch.
    batch_size : int or "auto", default="auto"
        Number of samples per update of the stochastic solvers; "auto" is
        ``min(200, n_samples)``.
    learning_rate : str or callable, default="constant"
        For "sgd", "constant", "invscaling" or "adaptive". In addition a schedule: a callable that
        takes the number of the update, from 0, and returns the learning rate, such as
        :class:`fastinit.Cosine`. It applies to all stochastic solvers.
    learning_rate_init : float, default=0.001
        Learning rate, or its first value, of the stochastic solvers.
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Largest number of epochs, or of iterations of "lbfgs".
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, of the validation split and of the order of the samples.
    tol : float, default=1e-4
        Smallest improvement of the loss, or of the validation score, that counts.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` continues from the parameters of the call before.
    momentum : float, default=0.9
        Momentum of "sgd", from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether the momentum of "sgd" is Nesterov's.
    early_stopping : bool, default=False
        Whether to set aside `validation_fraction` of the samples, and to stop when their score
        does not improve.
    validation_fraction : float, default=0.1
        Share of the samples that early stopping sets aside.
    beta_1 : float, default=0.9
        Decay rate of the first moment of "adam", in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the second moment of "adam", in [0, 1).
    epsilon : float, default=1e-8
        Added to the denominator of "adam" for numerical stability.
    n_iter_no_change : int, default=10
        Number of epochs in a row without an improvement by `tol` after which the training stops.
    max_fun : int, default=15000
        Largest number of evaluations of the loss by "lbfgs".
    initialization : str, callable or sequence, default="auto"
        "auto" draws weights and biases as scikit-learn does. Otherwise the name of an initialiser
        of :mod:`fastinit.initializers`, an initialiser, a ``functools.partial`` of one for other
        settings, a callable that fills ``out`` as in :meth:`fastinit.Network.initialize`, or a
        sequence with one of these for each layer.
    n_networks : int, default=1
        Number of networks of a deep ensemble [1]_, whose outputs are averaged.
    n_init : int, default=1
        Number of starts of each network. The one with the best validation score is kept, or with
        the lowest loss without `early_stopping`.
    threads : int, default=None
        Largest number of threads. None means all usable cores, but one inside a worker of joblib.
        Results do not depend on it.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_in, n_out)
        The weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,)
        The biases of each layer.
    loss_ : float
        The loss of the last epoch.
    loss_curve_ : list of float
        The loss of each epoch. Of the stochastic solvers only.
    best_loss_ : float or None
        The lowest loss of an epoch; None with `early_stopping`.
    validation_scores_ : list of float or None
        R2 on the validation samples after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        The best of `validation_scores_`, whose parameters are kept; None without
        `early_stopping`.
    n_iter_ : int
        Number of epochs, or of iterations of "lbfgs".
    t_ : int
        Number of samples that the training has used, each counted once per epoch.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features. Exists if `X` has names that are strings.
    n_layers_ : int
        Number of layers, with those of the inputs and the outputs.
    n_outputs_ : int
        Number of outputs of the network.
    out_activation_ : str
        Activation of the outputs.
    networks_ : list of MLPRegressor
        The networks of an ensemble. Exists if `n_networks` is above 1; the other attributes are
        then those of the first network.

    References
    ----------
    .. [1] Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty
       estimation using deep ensembles", NeurIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from fastinit.sklearn import MLPRegressor
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> model = MLPRegressor(solver="lbfgs", random_state=1, max_iter=500).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    """

    _theirs = sklearn.neural_network.MLPRegressor

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        initialization: Any = "auto",
        n_networks: Any = 1,
        n_init: Any = 1,
        threads: Any = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.initialization = initialization
        self.n_networks = n_networks
        self.n_init = n_init
        self.threads = threads

    @available_if(lambda estimator: estimator._is_stochastic())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            Trained MLP model.
        """
        parameters.check(self, self._theirs)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict using the multi-layer perceptron model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        return_std : bool, default=False
            Whether to return the standard deviation over the networks of an ensemble too.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predicted values.
        y_std : ndarray of the shape of y
            Returned if `return_std` is True.
        """
        check_is_fitted(self)
        each = self._each(self._checked(X))
        outputs = self._mean(each)
        if outputs.shape[1] == 1:
            outputs = outputs.ravel()
        if not return_std:
            return outputs
        return outputs, each.std(axis=0).reshape(outputs.shape)

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _validate(self, X: Any, y: Any, incremental: bool, first: bool) -> tuple[Any, Any, Array]:
        plain = (
            not first
            and is_plain(X)
            and type(y) is np.ndarray
            and y.dtype == X.dtype
            and y.ndim == 1
            and len(X) == len(y)
            and bool(np.isfinite(y).all())
            and X.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
        )
        if not plain:
            X, y = validate_data(
                self, without_damage(X), without_damage(y), accept_sparse=["csr", "csc"],
                multi_output=True, y_numeric=True, dtype=(np.float64, np.float32), reset=first,
            )  # fmt: skip
            if y.ndim == 2 and y.shape[1] == 1:
                y = column_or_1d(y, warn=True)
        return X, y, y.reshape(len(y), -1)

    def _score_of(self, outputs: Array, Y: Array, weights: Array | None) -> float:
        if not np.isfinite(outputs).all():
            return nan
        w = np.ones(Y.shape[1]) if weights is None else weights
        Y = Y.astype(np.float64)
        numerator = (w * (Y - outputs) ** 2).sum(axis=1)
        mean = np.average(Y, axis=1, weights=weights)[:, None]
        denominator = (w * (Y - mean) ** 2).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = 1 - numerator / denominator
        scores[denominator == 0] = np.where(numerator[denominator == 0] == 0, 1.0, 0.0)
        return float(scores.mean())
