"""Tables of the user's: every form is read, what is no table is refused in one line, and the bandit draws from it."""

import gzip
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError, ResourceError
from icrl.envs._tables import as_table, load_table
from icrl.envs.classification_bandit import ClassificationBandit
from icrl.envs.random_mlp_bandit import RandomMLPBandit

X = np.array([[1.0, 5.0, 7.0], [2.0, 5.0, 1.0], [4.0, 5.0, 4.0], [5.0, 5.0, 0.0]])
Y = np.array([0, 2, 1, 2])
ROWS = "1,5,7,{}\n2,5,1,{}\n\n4,5,4,{}\n5,5,0,{}\n"
TEXTS = {
    "numbers.csv": ROWS.format(-1, 30, 4, 30),  # classes in the order of numbers
    "words.data": ROWS.format("a", "c", "b", "c").replace(",", ", "),
    "keel.dat": "@relation x\n@data\n" + ROWS.format("x", "z", "y", "z"),
    "blanks.trn": ROWS.format(1, 3, 2, 3).replace(",", " "),
    "more_blanks.dat": "  " + ROWS.format("a", "c", "b", "c").replace(",", "   ").replace("\n", " \n"),
    "tabs.tsv": ROWS.format("a a", "c c", "b", "c c").replace(",", "\t"),
    "semicolons.csv": "\ufeff" + ROWS.format(1, 3, 2, 3).replace(",", "; "),
    "quotes.csv": ROWS.format('"a, b"', '"c"', '"b"', "c"),
    "quotes_and_blanks.csv": ROWS.format(' "a, b"', ' "c"', ' "b"', " c"),
    "windows.csv": ROWS.format("a", "c", "b", "c").replace("\n", "\r\n"),
}


def standardised():
    """Columns to mean 0 and variance 1, the constant one to 0; then rows to length 1."""
    x = (X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1)
    return x / np.sqrt((x**2).sum(1, keepdims=True))


def check(table):
    np.testing.assert_allclose(table.features, standardised(), atol=1e-6)
    assert (table.features.dtype, table.labels.dtype, table.num_classes) == (np.float32, np.int32, 3)
    assert table.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("name", TEXTS)
def test_text(name, tmp_path):
    (tmp_path / name).write_text(TEXTS[name])
    check(load_table(str(tmp_path / name)))


def test_npz(tmp_path):
    np.savez(tmp_path / "mine.npz", features=X, labels=Y)
    check(load_table(str(tmp_path / "mine.npz")))


def test_idx(tmp_path):
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 4, 1, 3) + bytes(X.astype(np.uint8).ravel().tolist())
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes(Y.tolist()))
    )
    check(load_table(str(tmp_path / "train-images-idx3-ubyte.gz")))


def test_a_table_of_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", features=np.array([object()]), labels=Y)
    with pytest.raises(InputError, match=r"^table: .*evil.npz' cannot be used: .*allow_pickle"):
        load_table(str(tmp_path / "evil.npz"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "rows: got '0 lines'"),
        (
            "ragged.csv",
            "1,2,a\n1,b\n",
            "ragged.csv' cannot be used: line 2: got '2 fields', allowed: 3; fields parted by comm",
        ),
        ("words.csv", "1,x,a\n1,2,b\n", "words.csv' cannot be used: line 1: field 2: got 'x', allowed: a number"),
        ("nan.csv", "1,nan,a\n1,2,b\n", "line 1: field 2: got 'nan', allowed: a number; there is a gap"),
        ("question.csv", "1,2,a\n\n?,2,b\n", r"line 3: field 1: got '\?', allowed: a number; there is a gap"),
        ("gap.csv", "1,2,a\n1,,b\n", "line 2: field 2: got '', allowed: a number; there is a gap"),
        ("gap.tsv", "1\t2\ta\n\t2\tb\n", "line 2: field 1: got '', allowed: a number; there is a gap"),
        ("infinite.csv", "1,1e999,a\n1,2,b\n", "line 1: field 2: got '1e999', allowed: a finite number"),
        ("python.csv", "1,1_000,a\n1,2,b\n", "line 1: field 2: got '1_000', allowed: a number"),
        ("header.csv", ",x,y,label\n0,1.0,2.0,a\n", "line 1: field 1: got ''"),
        ("no_label.csv", "1,2,a\n1,2,\n", "line 2: its class, the last field: got '', .* it is missing"),
        ("no_label.dat", "1 2 a\n1 2\n", "line 2: got '2 fields', allowed: 3; fields parted by blanks"),
        ("first.csv", "1,0.5,2.5\n2,0.25,1.5\n", "line 1: its class, the last field: got '2.5', .* classes stand last"),
        ("comma.tsv", "5,1\t3,5\tA\n4,9\t3,0\tB\n", "line 1: field 1: got '5,1', .* a point for a decimal comma"),
        ("comma.csv", "5,1;3,5;A\n4,9;3,0;B\n", "line 1: field 1: got '5,1', .* a point for a decimal comma"),
        ("quoted.csv", '"5,1","3,5",A\n"4,9","3,0",B\n', "line 1: field 1: got '5,1', .* a point for a decimal comma"),
        (
            "thousands.dat",
            "1,000 2.0 A\n2,000 1.0 B\n",
            "line 1: its class, the last field: got '000 2.0 A', .* one way",
        ),
        ("two.csv", "1 2,5,a\n1 2,6,b\n", "line 1: field 1: got '1 2', .* part fields in one way"),
        ("mixed.dat", "1 2 a\n1,2,b\n", "line 1: got '1 fields', allowed: 3?2?"),
        ("quote.csv", '1,2,"a\n1,2,b\n', "line 1: got .*, allowed: fields plain or in double quotes"),
        ("one_field.csv", "a\nb\n", "line 1: got '1 fields', allowed: 2"),
        ("one.csv", "1,2,a\n1,2,a\n", r"labels: got \[0, 0\], allowed: 0 .. K - 1 with 2 <= K"),
        ("not.npz", "PK", "cannot be used"),
        ("not-idx3-ubyte.gz", "\x1f", "cannot be used"),
        ("x-idx3-ubyte", "abcdef", "magic: got '61626364'"),
    ],
)
def test_files_that_are_no_tables(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_table(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("features", "labels", "field"),
    [
        (X[0], Y, "features"),
        (np.full_like(X, np.inf), Y, "features"),
        (X.astype(str), Y, "features"),
        (X[:0], Y[:0], "features"),
        (X, Y[:3], "labels"),
        (X, Y - 1, "labels"),
        (X, Y + 0.5, "labels"),
        (X, Y * 10**6, "labels"),
    ],
)
def test_arrays_that_are_no_tables(features, labels, field):
    with pytest.raises(InputError, match=f"^{field}: got"):
        as_table(features, labels)


def test_an_unknown_table_gets_the_near_names():
    with pytest.raises(
        InputError, match=r"table: got 'digit', allowed: the path of a file, or a name \(did you mean digits"
    ):
        ClassificationBandit(table="digit")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    load_table.cache_clear()
    with pytest.raises(InputError, match=r"^scikit-learn is not installed; pip install 'icrl\[data\]'"):
        load_table("wine")


@pytest.mark.parametrize(("name", "shape", "most"), [("digits", (1797, 64), 183), ("breast-cancer", (569, 30), 357)])
def test_named_tables(name, shape, most):
    pytest.importorskip("sklearn")
    env = ClassificationBandit(table=name)
    task = env.sample_task(jax.random.key(0))
    assert task.features.shape == shape
    assert np.isclose(env.constant_regret(task).min(), 1 - most / shape[0])


def test_the_bandit_draws_rows_uniformly_and_pays_for_the_class(tmp_path):
    """100 000 contexts of four rows, |z| <= 4.3; and the reward is 1 for the row's class alone."""
    np.savez(tmp_path / "mine.npz", features=X, labels=Y)
    env = ClassificationBandit(table=str(tmp_path / "mine.npz"), horizon=3)
    assert (env.num_actions, env.spec.obs_shape) == (3, (3,))
    task = env.default_params
    _, states = jax.jit(jax.vmap(env.reset_env, (0, None)))(jax.random.split(jax.random.key(1), 100_000), task)
    counts = np.bincount(states.context, minlength=4)
    assert np.all(np.abs(counts / 1e5 - 0.25) <= 4.3 * np.sqrt(0.25 * 0.75 / 1e5))
    means = jax.vmap(env.arm_means, (None, 0))(task, jnp.arange(4))
    assert np.array_equal(means, np.eye(3)[Y])
    np.testing.assert_allclose(env.constant_regret(task), [3 / 4, 3 / 4, 1 / 2])


def test_the_prior_of_the_random_network():
    """Log-odds have mean 0 and the stated deviation over 20 000 tasks; one context stands for all (rotations)."""
    env = RandomMLPBandit(logit_std=2.0, num_arms=1, hidden=16)
    tasks = jax.jit(jax.vmap(env.sample_task))(jax.random.split(jax.random.key(0), 20_000))
    means = np.asarray(jax.vmap(env.arm_means, (0, None))(tasks, jnp.eye(8)[0]), np.float64).ravel()
    logits = np.log(means) - np.log1p(-means)
    assert abs(logits.mean()) <= 4.3 * logits.std() / np.sqrt(logits.size)
    squares = np.square(logits / 2.0)
    assert abs(squares.mean() - 1.0) <= 4.3 * squares.std() / np.sqrt(squares.size)


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr("icrl.envs._tables.MAX_BYTES", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", features=np.zeros((2000, 2)), labels=np.zeros(2000, int))
    (tmp_path / "bomb-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(20_000)))
    for name in ("bomb.npz", "bomb-images-idx3-ubyte.gz"):
        assert (tmp_path / name).stat().st_size < 1000
        with pytest.raises(ResourceError, match=r"unpacks to more than 10,000 bytes"):
            load_table(str(tmp_path / name))
