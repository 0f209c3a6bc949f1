"""Output sizes: the rules of transformers' processors as closed formulas. Sizes are (height, width) in pixels."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor, sqrt

Size = tuple[int, int]

SIDES_RATIO_MAX = 200
"""Qwen-VL accepts no image with a larger aspect ratio."""


def whole_patches(height: int, width: int, factor: int, pixels_min: int, pixels_max: int) -> Size:
    """`smart_resize` of Qwen2-VL: multiples of `factor` between two areas. Raises ValueError for extreme shapes."""
    _check_ratio(height, width)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > pixels_max:
        beta = sqrt(height * width / pixels_max)
        return max(factor, floor(height / beta / factor) * factor), max(factor, floor(width / beta / factor) * factor)
    if rows * columns < pixels_min:
        beta = sqrt(pixels_min / (height * width))
        return ceil(height * beta / factor) * factor, ceil(width * beta / factor) * factor
    return rows, columns


def whole_patches_of_clip(clip: tuple[int, int, int], moment: int, factor: int, limits: tuple[int, int]) -> Size:
    """`smart_resize` of Qwen3-VL's videos, for (frames, height, width): the area's limits apply to all frames
    together.

    Raises ValueError for extreme shapes and for less than one moment.
    """
    (frames, height, width), (pixels_min, pixels_max) = clip, limits
    if frames < moment:
        raise ValueError("fewer frames than one moment")
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _check_ratio(height, width)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    pixels = round(frames / moment) * moment * rows * columns
    if pixels > pixels_max:
        beta = sqrt(frames * height * width / pixels_max)
        return max(factor, floor(height / beta / factor) * factor), max(factor, floor(width / beta / factor) * factor)
    if pixels < pixels_min:
        beta = sqrt(pixels_min / (frames * height * width))
        return ceil(height * beta / factor) * factor, ceil(width * beta / factor) * factor
    return rows, columns


def shortest_edge(height: int, width: int, side: int) -> Size:
    """`get_resize_output_image_size`: the shorter side becomes `side`."""
    longer = int(side * max(height, width) / min(height, width))
    return (longer, side) if width <= height else (side, longer)


def between_edges(height: int, width: int, shortest: int, longest: int) -> Size:
    """`get_size_with_aspect_ratio`: the shorter side becomes `shortest`, the longer at most `longest`."""
    side, exact = shortest, float(shortest)
    if max(height, width) / min(height, width) * shortest > longest:
        exact = longest * float(min(height, width)) / float(max(height, width))
        side = round(exact)
    if min(height, width) == side:
        return height, width
    return (int(exact * height / width), side) if width < height else (side, int(exact * width / height))


def inside(height: int, width: int, limits: Size) -> Size:
    """`get_image_size_for_max_height_width`: as large as fits into `limits`."""
    scale = min(limits[0] / height, limits[1] / width)
    return int(height * scale), int(width * scale)


def best_canvas(height: int, width: int, canvases: Iterable[Size]) -> Size | None:
    """`select_best_resolution`: the canvas that shows most of the image and wastes least; None if none shows any."""
    best, shown_most, wasted_least = None, 0, float("inf")
    for canvas_height, canvas_width in canvases:
        scale = min(canvas_width / width, canvas_height / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        wasted = canvas_height * canvas_width - shown
        if shown > shown_most or (shown == shown_most and wasted < wasted_least):
            best, shown_most, wasted_least = (canvas_height, canvas_width), shown, wasted
    return best


def on_canvas(height: int, width: int, canvas: Size) -> Size:
    """`get_patch_output_size`: as large as fits onto the canvas, rounded up."""
    down, across = canvas[0] / height, canvas[1] / width
    if across < down:
        return min(ceil(height * across), canvas[0]), canvas[1]
    return canvas[0], min(ceil(width * down), canvas[1])


def best_grid(height: int, width: int, tile: Size, tiles: tuple[int, int]) -> Size:
    """`get_optimal_tiled_canvas`: (columns, rows) with `tiles[0]` to `tiles[1]` tiles and the most similar shape.

    If two are equally similar, the one with more tiles, if the image has more than half as many pixels.
    """
    tiles_min, tiles_max = tiles
    sides = range(1, tiles_max + 1)
    grids = [(columns, rows) for columns in sides for rows in sides if tiles_min <= columns * rows <= tiles_max]
    best, apart = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - columns / rows)
        closer = difference < apart
        if closer or (difference == apart and width * height > 0.5 * tile[0] * tile[1] * columns * rows):
            best, apart = (columns, rows), difference
    return best


def _check_ratio(height: int, width: int) -> None:
    if max(height, width) / min(height, width) > SIDES_RATIO_MAX:
        raise ValueError("the aspect ratio is too extreme")


def longest_edge(height: int, width: int, side: int, side_max: int) -> Size:
    """Idefics3's `get_resize_output_image_size`: the longer side becomes `side`, the other even; then `side_max`."""
    if width >= height:
        height, width = int(side / (width / height)), side
        height += height % 2
    else:
        height, width = side, int(side * (width / height))
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if width >= height and width > side_max:
        height, width = int(side_max / ratio), side_max
    elif height > width and height > side_max:
        height, width = side_max, int(side_max * ratio)
    return max(height, 1), max(width, 1)
