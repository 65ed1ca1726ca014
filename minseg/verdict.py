"""What prove() answers: proved, refuted with a witness to run, or evidence."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass
class Verdict:
    """What prove() found. str() begins with PROVED, PROVED GIVEN LINEARITY, EVIDENCE or REFUTED.

    status: one of those four. settled: the shapes and parameters it holds for. how: by what means.
    witness: for REFUTED, an integer input {"x": array, ...} on which the sides differ. only_if:
    with `where`, whether that condition is also needed.
    """

    status: str
    settled: list[str]
    how: str
    difference: dict[str, Any] = field(default_factory=dict)
    witness: Arrays = field(default_factory=dict)
    only_if: bool | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Nothing spoke against it."""
        return self.status != "REFUTED"

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        lines = [f"{self.status} for {'; '.join(self.settled[:4])}"]
        if len(self.settled) > 4:
            lines[0] += f"; and {len(self.settled) - 4} more"
        lines.append(f"  {self.how}")
        if self.status == "REFUTED":
            where = self.difference["where"]
            lines += [
                f"  {where}: left {self.difference['left']}",
                f"  {' ' * len(where)}  right {self.difference['right']}",
                f"  {' ' * len(where)}  left - right = {self.difference['minus']}",
            ]
            if self.difference["run"]:
                lines.append("  An input that shows it, ready to run:")
                lines += [f"    {line}" for line in self.difference["run"]]
        if self.only_if is not None:
            lines.append(
                "  And only then: where the condition fails, some input tells the sides apart."
                if self.only_if
                else "  Not only then: the sides are equal on more than the condition asks for."
            )
        if self.note:
            lines.append(f"  {self.note}")
        if self.status.startswith("PROVED"):
            lines.append(
                "  Settled for these shapes; your homework asks for all of them: write the change of "
                "index."
            )
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """For notebooks: the words, the two formulas typeset, and where the sides differ, drawn."""
        import html

        parts = [f"<pre>{html.escape(str(self))}</pre>"]
        if self.status == "REFUTED":
            left, right = (_latex(self.difference[side]) for side in ("left", "right"))
            parts.append(f"$$\\text{{left}} = {left} \\qquad \\text{{right}} = {right}$$")
            parts.append(_picture(self.difference["map"]))
        return "".join(parts)


def _latex(formula: str) -> str:
    """k00*x12 -> k_{00} x_{12}."""
    import re

    formula = re.sub(r"\b([A-Za-z])(\d+(?:_\d+)*)\b", _index, formula)
    return re.sub(r"\*\*(\d+)", r"^{\1}", formula).replace("*", r"\,")


def _index(name: Any) -> str:
    return f"{name[1]}_{{{name[2].replace('_', ',')}}}"


def _picture(differs: np.ndarray) -> str:
    """Which outputs differ, as an <img>: 1 where they do."""
    import base64
    import io

    from minseg import plot

    plane = differs.reshape(-1, differs.shape[-1]) if differs.ndim >= 2 else differs.reshape(1, -1)
    if max(plane.shape) > 24:
        return ""
    buffer = io.BytesIO()
    plot.matrix(plane, title="outputs that differ").savefig(buffer, format="png", dpi=80)
    code = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="1 where the two sides differ" src="data:image/png;base64,{code}">'
