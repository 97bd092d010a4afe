"""Regular expressions that a contract may use: read alike by both validators, and never slow.

Allowed: literals, escaped syntax characters, `.`, `\\d \\D \\w \\W \\n \\r \\t`, classes, groups, alternatives, `^`,
`$` and the repeats `? * + {n} {n,} {n,m}`. Refused: what Python and ECMA-262 read differently (`\\s`, `\\b`, `\\p`, set
classes), look-around, back references, lazy repeats, and whatever could backtrack for long: a variable repeat of
something that itself varies, or more than 2²¹ ways to match a text of the schema's `maxLength` (1 MiB without one).
"""

import re
from functools import lru_cache

PATTERN_CHARS_MAX = 1_000
GROUPS_DEEP_MAX = 20
REPEAT_MAX = 1_000
WAYS_MAX = 2**21  # some 50 ms; one unbounded repeat fits
TEXT_CHARS_MAX = 2**20

_ESCAPE = r"\\[dDwWnrt^$\\.*+?()\[\]{}|/-]"
_TOKEN = re.compile(
    rf"""(?P<open>\((?:\?:)?(?!\?)) | (?P<close>\)) | (?P<either>\|)
    | (?P<repeat>[?*+] | \{{(?P<least>\d{{1,4}})(?P<range>,(?P<most>\d{{1,4}})?)?\}})
    | (?P<edge>[\^$])
    | (?P<one>{_ESCAPE} | \[\^?(?:{_ESCAPE}|[^\]\\\[&~])+\] | [^\\\[\]{{}}()|?*+^$])""",
    re.VERBOSE | re.DOTALL,
)


class PatternRefused(ValueError):
    """The pattern may not be used; the message says why."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """A checked `pattern` as ECMA-262 reads it: ASCII classes, and `$` at the very end only."""
    ended = (r"\Z" if token["edge"] == "$" else token[0] for token in _TOKEN.finditer(pattern))
    return re.compile("".join(ended), re.ASCII)


def check_pattern(pattern: str, length_max: int | None) -> None:
    """Raises PatternRefused unless `pattern` is portable and quick on texts of up to `length_max` characters."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise PatternRefused(f"longer than {PATTERN_CHARS_MAX} characters")
    ways = _Reader(pattern, TEXT_CHARS_MAX if length_max is None else length_max).ways()
    if ways > WAYS_MAX:
        raise PatternRefused("may backtrack for long: begin it with ^, bound its repeats or add a small maxLength")
    try:
        compiled(pattern)
    except re.error as error:
        raise PatternRefused(str(error)) from None


class _Reader:
    """Reads a pattern once, left to right, counting in how many ways it can match: an upper bound of backtracking."""

    def __init__(self, pattern: str, length: int) -> None:
        self._pattern, self._length = pattern, length
        self._at, self._forks = 0, False  # _forks: alternatives outside of any group

    def ways(self) -> int:
        ways = self._alternatives(0)
        if self._at < len(self._pattern):
            raise PatternRefused("a ) too many")
        anchored = self._pattern.startswith("^") and not self._forks
        return ways if anchored else ways * self._length

    def _alternatives(self, deep: int) -> int:
        if deep > GROUPS_DEEP_MAX:
            raise PatternRefused(f"groups nested more than {GROUPS_DEEP_MAX} deep")
        total, ways, last = 0, 1, None  # `last`: ways of the thing that a repeat would repeat
        while (token := self._next()) is not None:
            if token["close"]:
                if deep == 0:
                    self._at -= 1
                break
            if token["repeat"]:
                if last is None:
                    raise PatternRefused(f"nothing to repeat before {token[0]}")
                ways, last = ways * self._repeated(last, token), None
                continue
            ways *= last or 1
            last = None
            if token["either"]:
                total, ways = total + ways, 1
                self._forks = self._forks or deep == 0
            elif token["open"]:
                last = self._alternatives(deep + 1)
            elif token["one"]:
                last = 1
        return min(total + ways * (last or 1), WAYS_MAX * self._length)

    def _next(self) -> re.Match[str] | None:
        if self._at == len(self._pattern):
            return None
        token = _TOKEN.match(self._pattern, self._at)
        if token is None or (token["one"] and re.search(r"^\[.*--", token["one"])):
            rest = self._pattern[self._at : self._at + 20]
            raise PatternRefused(f"not in the portable subset of regular expressions, from {rest!r} on")
        self._at = token.end()
        return token

    def _repeated(self, ways: int, token: re.Match[str]) -> int:
        least, most = self._bounds(token)
        if most < least or max(least, int(token["most"] or 0)) > REPEAT_MAX:
            raise PatternRefused(f"repeat {token[0]} is out of bounds (0 to {REPEAT_MAX}, in order)")
        if least != most and most > 1 and ways > 1:
            raise PatternRefused(f"backtracks for long: {token[0]} repeats what itself repeats or has alternatives")
        if ways > 1 and least == most:
            return int(min(ways**least, WAYS_MAX * self._length))
        return ways + 1 if most == 1 and least == 0 else most - least + 1

    def _bounds(self, token: re.Match[str]) -> tuple[int, int]:
        if token["least"] is None:
            return {"?": (0, 1), "*": (0, self._length), "+": (1, max(1, self._length))}[token[0]]
        least = int(token["least"])
        if token["range"] is None:
            return least, least
        return least, max(least, self._length) if token["most"] is None else int(token["most"])
