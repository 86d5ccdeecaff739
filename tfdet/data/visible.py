"""The boxes of objects that are seen through a window, from their outlines."""

import tensorflow as tf


def project(points: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Points [K, 2] of (x, y) after a projective map [3, 3]."""
    # Not tf.matmul: for a few points its setting up takes longer than all the rest here.
    x, y = tf.unstack(points, axis=1)
    rows = [row[0] * x + row[1] * y + row[2] for row in tf.unstack(matrix)]
    return tf.stack([rows[0] / rows[2], rows[1] / rows[2]], axis=1)


def visible_boxes(
    sides: tf.Tensor,
    owners: tf.Tensor,
    num_objects: tf.Tensor,
    frame: tf.Tensor,
    matrix: tf.Tensor,
    window: tf.Tensor,
) -> tf.Tensor:
    """Boxes of what can be seen of objects after a map.

    An object is seen where it lies inside the frame it comes from and, moved, inside the window.
    The box around that is exact: its limits are points of the outline, or corners of the visible
    region that lie inside the object.

    Args:
        sides: float32 [E, 4], sides of outlines in the frame, each from (x, y) to (x, y).
        owners: int32 [E], the object of each side.
        num_objects: N.
        frame: float32 [2], (width, height) of the source.
        matrix: [3, 3]; it maps points of the frame to points of the window, none of them to
            infinity.
        window: float32 [2], (width, height) of the result.

    Returns:
        float32 [N, 4] xyxy in the window; zeros where nothing is seen.
    """
    in_frame, is_in_frame = clip_sides(sides, frame)
    seen, is_seen = clip_sides(_project_sides(in_frame, matrix), window)
    is_seen &= is_in_frame
    seen_owners = tf.boolean_mask(owners, is_seen)
    ends = tf.reshape(tf.boolean_mask(seen, is_seen), [-1, 2])
    end_owners = tf.repeat(seen_owners, 2)

    corners, is_corner = _region_corners(frame, matrix, window)
    is_inside = points_inside(
        project(corners, tf.linalg.inv(matrix)), sides, owners, num_objects
    )  # [K, N]
    places = tf.where(is_inside & is_corner[:, tf.newaxis])
    points = tf.concat([ends, tf.gather(corners, places[:, 0])], axis=0)
    point_owners = tf.concat([end_owners, tf.cast(places[:, 1], tf.int32)], axis=0)
    lowest = tf.math.unsorted_segment_min(points, point_owners, num_objects)
    highest = tf.math.unsorted_segment_max(points, point_owners, num_objects)
    boxes = tf.concat([lowest, highest], axis=1)
    return tf.where(lowest[:, :1] <= highest[:, :1], boxes, 0.0)


def clip_sides(sides: tf.Tensor, limits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The parts of sides inside of the rectangle from (0, 0) to limits (x, y).

    Returns:
        `(parts [E, 4], is_inside bool [E])`; the parts of sides outside are arbitrary.
    """
    start, step = sides[:, :2], sides[:, 2:] - sides[:, :2]
    is_still = step == 0
    safe_step = tf.where(is_still, 1.0, step)
    shares = tf.stack([-start / safe_step, (limits - start) / safe_step])  # [2, E, 2]
    lies_between = (start >= 0) & (start <= limits)
    enter = tf.where(is_still, tf.where(lies_between, 0.0, 2.0), tf.reduce_min(shares, axis=0))
    leave = tf.where(is_still, 1.0, tf.reduce_max(shares, axis=0))
    enter = tf.maximum(tf.reduce_max(enter, axis=1, keepdims=True), 0.0)
    leave = tf.minimum(tf.reduce_min(leave, axis=1, keepdims=True), 1.0)
    parts = tf.concat([start + enter * step, start + leave * step], axis=1)
    return tf.clip_by_value(parts, 0.0, tf.tile(limits, [2])), (enter <= leave)[:, 0]


def points_inside(
    points: tf.Tensor, sides: tf.Tensor, owners: tf.Tensor, num_objects: tf.Tensor
) -> tf.Tensor:
    """Which points [K, 2] lie inside which outlines, by the even-odd rule: bool [K, N]."""
    x0, y0, x1, y1 = tf.unstack(sides[:, tf.newaxis], axis=-1)  # [E, 1]
    x, y = points[:, 0], points[:, 1]
    is_crossed = (y0 > y) != (y1 > y)  # [E, K]
    crossing = x0 + (y - y0) / tf.where(y0 == y1, 1.0, y1 - y0) * (x1 - x0)
    count = tf.cast(is_crossed & (x < crossing), tf.int32)
    return tf.transpose(tf.math.unsorted_segment_sum(count, owners, num_objects)) % 2 == 1


def _region_corners(frame, matrix, window) -> tuple[tf.Tensor, tf.Tensor]:
    """Twelve candidates for corners of the moved frame within the window: [12, 2], bool [12]."""
    frame_sides = _border(frame)
    parts, is_part = clip_sides(_project_sides(frame_sides, matrix), window)
    own = _border(window)[:, :2]
    origin = project(own, tf.linalg.inv(matrix))
    is_in_frame = tf.reduce_all((origin >= 0) & (origin <= frame), axis=1)
    corners = tf.concat([tf.reshape(parts, [-1, 2]), own], axis=0)
    return corners, tf.concat([tf.repeat(is_part, 2), is_in_frame], axis=0)


def _border(limits: tf.Tensor) -> tf.Tensor:
    """The four sides [4, 4] of the rectangle from (0, 0) to limits."""
    unit = tf.constant([[0.0, 0, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 0, 0]])
    return unit * tf.tile(limits, [2])


def _project_sides(sides: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    return tf.reshape(project(tf.reshape(sides, [-1, 2]), matrix), [-1, 4])
