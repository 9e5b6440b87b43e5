"""POMDPs as text in Cassandra's format (pomdp.org, file grammar of pomdp-solve): read strictly, with line and field.

    discount: 0.95            values: reward | cost       states, actions, observations: a count, or names
    start: probabilities | uniform | a state              start include: states      start exclude: states
    T: a : s : s' p           T: a : s  then a row        T: a  then a matrix     (uniform, identity; reset for a row)
    O: a : s' : o p           O: a : s' then a row        O: a  then a matrix     (uniform)
    R: a : s : s' : o v       R: a : s : s' then a row    R: a : s then a matrix

``*`` stands for all; of two entries for one number the later one holds. Without ``start`` all states are equally
likely. Nothing is guessed: names begin with a letter, numbers are decimal, and every row of T and O must sum to 1.
"""

import math
import re
from typing import Any, NamedTuple, NoReturn

import numpy as np

from icrl.core.errors import InputError, near_names, shown

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)
SETS = {"states": 512, "actions": 256, "observations": 1024}  # and the most that there may be
HEADS = (*SETS, "discount", "values", "start", "T", "O", "R")
WORDS = (*HEADS, "uniform", "identity", "reset", "reward", "cost", "include", "exclude")
MAX_NUMBERS = 2**24  # of T, of O, and of the rewards of one action
MAX_REWARD = 1e9
TOLERANCE = 1e-4  # of the sum of a row


class Model(NamedTuple):
    """What a file says; S states, K actions, O observations."""

    discount: float
    names: dict[str, tuple[str, ...]]  # of "states", "actions" and "observations"
    transition: np.ndarray  # [K, S, S] float64
    observation: np.ndarray  # [K, S, O] float64
    reward: np.ndarray  # [K, S, S] float64, expected over the observations that may come with s'
    start: np.ndarray  # [S] float64


def parse(text: str, path: str) -> Model:
    """The model in ``text``; ``path`` is for messages.

    Raises:
      InputError: one line with file, line and field.
    """
    return _Parser(text, path).model()


class _Token(NamedTuple):
    text: str
    line: int


class _Rule(NamedTuple):
    """An entry of R."""

    actions: np.ndarray
    states: np.ndarray
    after: np.ndarray
    observations: np.ndarray
    value: np.ndarray  # a number, [O], or [S, O]


class _Parser:
    """Reads token after token; ``at`` is the next one."""

    def __init__(self, text: str, path: str):
        lines = enumerate(text.splitlines(), start=1)
        self.path, self.at = path, 0
        self.tokens = [
            _Token(word, number)
            for number, line in lines
            for word in line.partition("#")[0].replace(":", " : ").split()
        ]
        self.names: dict[str, tuple[str, ...]] = {}
        self.single: dict[str, Any] = {}  # what may stand once: discount, values, start
        self.tables: dict[str, np.ndarray] = {}  # T and O
        self.lines: dict[str, np.ndarray] = {}  # where each of their rows was last written, 0: nowhere
        self.rules: list[_Rule] = []

    def model(self) -> Model:
        while self.at < len(self.tokens):
            head = self.take("a keyword")
            kind = ""
            if head.text == "start" and self.peek() in ("include", "exclude"):
                kind = self.take("").text
            if head.text not in HEADS or self.peek() != ":":
                self.fail(head.line, "keyword", shown(head.text), f"one of {', '.join(HEADS)}, and a colon")
            self.take(":")
            self.section(head, kind)
        for name in ("discount", *SETS):
            if name not in self.single:
                self.fail(self.last_line, name, "nothing", f"a line {name}: ...")
        if not self.rules:
            self.fail(self.last_line, "R", "no rewards", "at least one entry R: ...")
        for name in ("T", "O"):
            self.prepare(name)
            self.check_rows(name)
        start = self.single.get("start", np.full(self.count("states"), 1.0 / self.count("states")))
        return Model(
            self.single["discount"], self.names, self.tables["T"], self.tables["O"], self.expected_reward(), start
        )

    def section(self, head: _Token, kind: str) -> None:
        """What follows ``head`` and its colon."""
        if head.text not in ("T", "O", "R"):
            if head.text in self.single:
                self.fail(head.line, head.text, "a second one", "one of each in a file")
            readers = {"discount": self.read_discount, "values": self.read_values, "start": self.read_start}
            reader = readers.get(head.text, self.read_names)
            self.single[head.text] = reader(head, kind)
        elif head.text == "R":
            self.read_reward(head)
        else:
            self.read_table(head)

    # -- preamble --

    def read_discount(self, head: _Token, kind: str) -> float:
        del kind
        return self.number(head, 0.0, 1.0)

    def read_values(self, head: _Token, kind: str) -> float:
        del kind
        word = self.take("reward or cost")
        if word.text not in ("reward", "cost"):
            self.fail(word.line, head.text, shown(word.text), "reward or cost")
        return 1.0 if word.text == "reward" else -1.0

    def read_names(self, head: _Token, kind: str) -> int:
        del kind
        words = self.words()
        most = SETS[head.text]
        if len(words) == 1 and words[0].text.isascii() and words[0].text.isdigit():
            count = int(words[0].text) if len(words[0].text) <= 9 else most + 1
            found = tuple(map(str, range(min(count, most + 1))))
        else:
            for word in words:
                if not NAME.fullmatch(word.text) or word.text in WORDS:
                    self.fail(
                        word.line, head.text, shown(word.text), "names of letters, digits, _ . -, that are no keywords"
                    )
            found, count = tuple(word.text for word in words), len(words)
        if not 1 <= count <= most or len(set(found)) < count:
            self.fail(head.line, head.text, f"{count} of them", f"1 to {most}, all different")
        self.names[head.text] = found
        return count

    def read_start(self, head: _Token, kind: str) -> np.ndarray:
        count = self.count("states", head)
        words = self.words()
        chosen = np.zeros(count)
        if kind:
            for word in words:
                chosen[self.index("states", word)] = 1.0
            chosen = chosen if kind == "include" else 1.0 - chosen
            if not words or not chosen.any():
                self.fail(head.line, f"start {kind}", "no state", "states, such that at least one is left")
            return np.asarray(chosen / chosen.sum())
        if len(words) == 1 and words[0].text == "uniform":
            return np.full(count, 1.0 / count)
        if len(words) == 1 and (count > 1 or not NUMBER.fullmatch(words[0].text)):
            chosen[self.index("states", words[0])] = 1.0
            return chosen
        if len(words) != count:
            self.fail(head.line, "start", f"{len(words)} words", f"{count} probabilities, uniform, or a state")
        row = np.array([self.value(word, "start", 0.0, 1.0) for word in words])
        if abs(row.sum() - 1.0) > TOLERANCE:
            self.fail(head.line, "start", f"a sum of {row.sum():g}", "probabilities that sum to 1")
        return np.asarray(row / row.sum())

    # -- tables --

    def read_table(self, head: _Token) -> None:
        name, last = head.text, "states" if head.text == "T" else "observations"
        self.prepare(name, head)
        actions = self.indices("actions", head)
        table, lines, width = self.tables[name], self.lines[name], self.count(last)
        if self.peek() != ":":
            table[actions], lines[actions] = self.matrix(head, self.count("states"), width)
            return
        self.take(":")
        states = self.indices("states", head)
        rows = np.ix_(actions, states)
        if self.peek() != ":":
            table[rows] = self.row(head, width)
        else:
            self.take(":")
            after = self.indices(last, head)
            table[np.ix_(actions, states, after)] = self.number(head, 0.0, 1.0)
        lines[rows] = head.line

    def read_reward(self, head: _Token) -> None:
        self.count("observations", head)
        parts = [self.indices("actions", head)]
        for kind in ("states", "states", "observations"):
            if len(parts) > 1 and self.peek() != ":":
                break
            self.colon(head)
            parts.append(self.indices(kind, head))
        states, seen = (np.arange(self.count(kind)) for kind in ("states", "observations"))
        shape = {4: (), 3: (len(seen),), 2: (len(states), len(seen))}[len(parts)]
        numbers = [self.number(head, -MAX_REWARD, MAX_REWARD) for _ in range(math.prod(shape))]
        actions, before, after, observations = parts + [states, seen][len(parts) - 2 :]
        self.rules.append(_Rule(actions, before, after, observations, np.reshape(numbers, shape)))

    def row(self, head: _Token, width: int) -> np.ndarray:
        """A row of T or O."""
        word = self.peek()
        if word == "uniform":
            self.take(word)
            return np.full(width, 1.0 / width)
        if word == "reset" and head.text == "T" and "start" in self.single:
            self.take(word)
            return np.asarray(self.single["start"])
        return np.array([self.number(head, 0.0, 1.0) for _ in range(width)])

    def matrix(self, head: _Token, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """All rows of T or O for an action, and the lines on which they begin."""
        word, here = self.peek(), np.full(height, head.line)
        if word == "uniform":
            self.take(word)
            return np.full((height, width), 1.0 / width), here
        if word == "identity" and height == width:
            self.take(word)
            return np.eye(width), here
        rows = np.zeros((height, width))
        for i in range(height):
            here[i] = self.tokens[min(self.at, len(self.tokens) - 1)].line
            rows[i] = [self.number(head, 0.0, 1.0) for _ in range(width)]
        return rows, here

    def prepare(self, name: str, head: _Token | None = None) -> None:
        """Make the table T or O, if it is not there yet."""
        if name not in self.tables:
            kinds = ("actions", "states", "states" if name == "T" else "observations")
            shape = tuple(self.count(kind, head) for kind in kinds)
            square = self.count("states", head) ** 2 * self.count("observations", head)
            if max(math.prod(shape), square) > MAX_NUMBERS:
                self.fail(head.line if head else self.last_line, name, f"shape {shape}", f"{MAX_NUMBERS:,} numbers")
            self.tables[name], self.lines[name] = np.zeros(shape), np.zeros(shape[:2], int)

    def check_rows(self, name: str) -> None:
        """Refuse rows that do not sum to 1; what rounding has left is divided out."""
        table = self.tables[name]
        sums = table.sum(-1)
        for action, state in np.argwhere(np.abs(sums - 1.0) > TOLERANCE)[:1]:
            line = int(self.lines[name][action, state]) or self.last_line
            row = f"{name}: {self.names['actions'][action]} : {self.names['states'][state]}"
            self.fail(line, row, f"a sum of {sums[action, state]:g}", "a row that sums to 1")
        table /= sums[..., None]

    def expected_reward(self) -> np.ndarray:
        """r(s, a, s'), [K, S, S]: entries for observations are averaged by their probability in s'."""
        states, seen = self.count("states"), self.count("observations")
        found = np.zeros((self.count("actions"), states, states))
        for action in range(len(found)):
            value = np.zeros((states, states, seen))
            for rule in (rule for rule in self.rules if action in rule.actions):
                value[np.ix_(rule.states, rule.after, rule.observations)] = rule.value
            found[action] = np.einsum("ijo,jo->ij", value, self.tables["O"][action])
        return found * float(self.single.get("values", 1.0))

    # -- words --

    @property
    def last_line(self) -> int:
        return self.tokens[-1].line if self.tokens else 1

    def fail(self, line: int, field: str, found: str, allowed: str) -> NoReturn:
        raise InputError(f"{self.path}: line {line}: {field}: got {found}, allowed: {allowed}")

    def peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def take(self, wanted: str) -> _Token:
        if self.at == len(self.tokens):
            self.fail(self.last_line, "end of file", "nothing", wanted)
        self.at += 1
        return self.tokens[self.at - 1]

    def colon(self, head: _Token) -> None:
        word = self.take("a colon")
        if word.text != ":":
            self.fail(word.line, head.text, shown(word.text), "a colon and one name more")

    def words(self) -> list[_Token]:
        """All words up to the next keyword."""
        found = []
        while self.at < len(self.tokens) and self.peek() not in HEADS:
            found.append(self.take(""))
        return found

    def count(self, kind: str, head: _Token | None = None) -> int:
        """How many states, actions or observations there are; they must have been declared."""
        if kind not in self.names:
            line, field = (head.line, head.text) if head else (self.last_line, kind)
            self.fail(line, field, f"no {kind} yet", f"a line {kind}: ... above")
        return len(self.names[kind])

    def indices(self, kind: str, head: _Token) -> np.ndarray:
        """The numbers of the next word: one, or all for ``*``."""
        count, word = self.count(kind, head), self.take(f"one of the {kind}")
        return np.arange(count) if word.text == "*" else np.array([self.index(kind, word)])

    def index(self, kind: str, word: _Token) -> int:
        names = self.names[kind]
        if word.text in names:
            return names.index(word.text)
        if word.text.isascii() and word.text.isdigit() and len(word.text) <= 9 and int(word.text) < len(names):
            return int(word.text)
        self.fail(
            word.line, kind.removesuffix("s"), shown(word.text), f"one of the {kind}; {near_names(word.text, names)}"
        )

    def number(self, head: _Token, low: float, high: float) -> float:
        """The next word as a number in [low, high]."""
        return self.value(self.take("a number"), head.text, low, high)

    def value(self, word: _Token, field: str, low: float, high: float) -> float:
        value = float(word.text) if NUMBER.fullmatch(word.text) and len(word.text) <= 100 else math.nan
        if not low <= value <= high:
            self.fail(word.line, field, shown(word.text), f"a number in [{low:g}, {high:g}]")
        return value
