"""The values of a row as columns of a table: headings, and how numbers are written."""

# Heading and format of each; others are headed by their name.
_COLUMNS = {
    "parameters": ("parameters (M)", ".3f"),
    "macs": ("multiply-adds (M)", ".1f"),
    "macs_std": ("std of an image's (M)", ".2f"),
    "ms": ("ms", ".2f"),
    "search_AP": ("AP in the search", ".1f"),
    "search_score": ("score", ".3f"),
    "easiness_std": ("std of the router's scores", ".2f"),
    "first_macs": ("of the first (M)", ".1f"),
    "second_macs": ("of the cascade (M)", ".1f"),
    "cpu_minutes": ("CPU min of a run", ".1f"),
    "routes": ("routes", ".0f"),
    "soft_cost": ("soft cost (% of the grid)", ".0f"),
    "soft_intervals": ("soft cost and intervals (Spearman)", "+.2f"),
    "usual_AP": ("AP, all on the usual route", ".1f"),
    "usual_macs": ("multiply-adds of that (M)", ".1f"),
    "hamming": ("gates in which two images differ", ".1f"),
    "open_gates": ("gates open (%)", ".0f"),
    "dead_gates": ("open for no image (%)", ".0f"),
    "first_AP": ("AP of the first", ".1f"),
    "second_AP": ("AP of the second", ".1f"),
    "gain_router": ("gain of the router", ".2f"),
    "gain_random": ("gain of random routing", ".2f"),
    "gain_oracle": ("gain of the oracle", ".2f"),
    **{
        f"easiness_{trait}": (f"easiness and {words} (Spearman)", "+.2f")
        for trait, words in (
            ("objects", "number of objects"),
            ("size", "size of objects"),
            ("difficulty", "difficulty"),
        )
    },
    **{f"open_P{level}": (f"nodes of P{level} open (%)", ".0f") for level in range(3, 8)},
    **{
        f"{kind}_{trait}": (f"cost and {trait} ({kind.title()})", "+.2f")
        for kind in ("pearson", "spearman")
        for trait in ("objects", "intervals", "difficulty", "size")
    },
}


def is_difference(column: str) -> bool:
    """Whether a column is "a - b", the difference of two values of the same run."""
    return " - " in column


def words(column: str) -> str:
    """The heading of a column."""
    parts = [_COLUMNS.get(name, (name, ""))[0] for name in column.split(" - ")]
    return " \N{MINUS SIGN} ".join(parts)


def form(column: str) -> str:
    """How its numbers are formatted."""
    return _COLUMNS.get(column.split(" - ")[0], ("", ".1f"))[1]


def number(value: float, column: str) -> str:
    """A number of a column."""
    return signed(f"{value:{form(column)}}")


def signed(text: str) -> str:
    """A minus sign that is not a hyphen; no sign before zero."""
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")
