"""The reliability curve as an SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SIDE, MARGIN = 260, 44


def reliability_chart(curve: Sequence[Mapping[str, float]]) -> str:
    """The bins of ``Reliability.curve`` as dots on the square of score (across) and share there (up).

    Dots on the diagonal are honest; the area of a dot grows with the share of prompts it stands for.
    """
    total = sum(point["prompts"] for point in curve)
    places = [(_x(point["score"]), _y(point["there"])) for point in curve]
    ticks = "".join(_tick(value / 5) for value in range(6))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 + 12 * (point["prompts"] / total) ** 0.5:.1f}">'
        f"<title>{point['prompts']:,} prompts, score {point['score']:.2f}, there {point['there']:.1%}</title></circle>"
        for point, (x, y) in zip(curve, places, strict=True)
    )
    width, height = SIDE + 2 * MARGIN, SIDE + 2 * MARGIN
    middle = SIDE / 2 + MARGIN
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="presence score against share truly there">'
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}" class="frame"></rect>{ticks}'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" class="frame" stroke-dasharray="4 4"></line>'
        f'<polyline points="{line}" class="curve"></polyline>{dots}'
        f'<text x="{middle}" y="{height - 6}" text-anchor="middle">presence score</text>'
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">share truly there</text>'
        "</svg>"
    )


def _x(value: float) -> float:
    return MARGIN + SIDE * value


def _y(value: float) -> float:
    return MARGIN + SIDE * (1 - value)


def _tick(value: float) -> str:
    return (
        f'<text x="{_x(value)}" y="{_y(0) + 16}" text-anchor="middle">{value:.1f}</text>'
        f'<text x="{_x(0) - 6}" y="{_y(value) + 4}" text-anchor="end">{value:.1f}</text>'
    )
