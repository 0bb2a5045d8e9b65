"""A plot of lines over powers of two, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 360, 60, 48, 24
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def plot(lines: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Lines of (x, y) points by name, both axes logarithmic; y starts at 1 or below."""
    points = [point for line in lines.values() for point in line]
    right = max(1.0, math.log2(max(x for x, _ in points)))
    low = min(0, math.floor(math.log10(min(y for _, y in points))))
    high = max(1, math.ceil(math.log10(max(y for _, y in points))))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (WIDTH - LEFT - 20) * math.log2(x) / right
        up = (HEIGHT - BOTTOM - TOP) * (math.log10(y) - low) / (high - low)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    style = 'font-family="sans-serif" font-size="12"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>']
    for power in range(low, high + 1):
        _, y = place(1, 10**power)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    for x in sorted({x for x, _ in points}):
        parts.append(f'<text x="{place(x, 1)[0]}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{WIDTH - 20}" y="{HEIGHT - 10}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="{LEFT}" y="14">{escape(y_label)}</text>')
    for number, ((name, line), colour) in enumerate(zip(lines.items(), COLOURS, strict=False)):
        path = " ".join("{},{}".format(*place(x, y)) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += ['<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*place(x, y), colour) for x, y in line]
        parts.append(f'<text x="{LEFT + 16}" y="{TOP + 16 + 16 * number}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
