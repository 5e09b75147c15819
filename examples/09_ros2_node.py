"""A ROS 2 node: detections of a camera as vision_msgs/Detection2DArray. Not yet run under ROS.

sudo apt install ros-$ROS_DISTRO-vision-msgs && source /opt/ros/$ROS_DISTRO/setup.bash
python examples/09_ros2_node.py                       # the shipped clip, played as a camera would
python examples/09_ros2_node.py --ros-args -p source:=/dev/video0 -p model:=model.onnx -p frame_id:=camera_optical
ros2 topic echo /detections                           # in another terminal

rclpy belongs to ROS, not to pip: use an environment made with python3 -m venv --system-site-packages. The messages are
those of vision_msgs 4 (Humble and later).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import edgedet
from edgedet.runtime.capture.loop import LoopSource
from edgedet.runtime.stream import StreamResult
from edgedet.runtime.tracking import NO_TRACK, Tracking

DEMO = Path(edgedet.__file__).parent / "demo"


def to_message(result: StreamResult, header: Any, messages: Any) -> Any:
    """Return a Detection2DArray: centres and sizes in pixels, class names as ids, track ids where there are any.

    Args:
        result: of a model that finds boxes.
        header: std_msgs/Header with the time of the picture.
        messages: the module vision_msgs.msg.
    """
    array = messages.Detection2DArray(header=header)
    for item in result.detections:
        left, top, right, bottom = item.xyxy
        detection = messages.Detection2D(header=header)
        detection.bbox.center.position.x, detection.bbox.center.position.y = (left + right) / 2, (top + bottom) / 2
        detection.bbox.size_x, detection.bbox.size_y = right - left, bottom - top
        hypothesis = messages.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = item.class_name, item.score
        detection.results.append(hypothesis)
        detection.id = "" if item.track_id in (None, NO_TRACK) else str(item.track_id)
        array.detections.append(detection)
    return array


def main() -> None:
    """Publish until the source ends or ROS shuts down."""
    try:
        import rclpy
        import vision_msgs.msg
        from rclpy.duration import Duration
        from rclpy.qos import qos_profile_sensor_data
        from std_msgs.msg import Header
    except ImportError as error:
        sys.exit(f"This example needs ROS 2 ({error}): source /opt/ros/$ROS_DISTRO/setup.bash first")

    rclpy.init()
    node = rclpy.create_node("edgedet")
    model = node.declare_parameter("model", str(DEMO / "digits.int8.onnx")).value
    source = node.declare_parameter("source", "").value or LoopSource(DEMO / "digits.mp4")
    frame_id = node.declare_parameter("frame_id", "camera").value
    publisher = node.create_publisher(vision_msgs.msg.Detection2DArray, "detections", qos_profile_sensor_data)
    with edgedet.open_stream(model, source, tracking=Tracking()) as stream:
        rclpy.get_default_context().on_shutdown(stream.stop)
        for result in stream:
            # Frames have times of the monotonic clock, ROS has its own: what both know is how old the picture is.
            age_ns = time.monotonic_ns() - result.frame.timestamp_ns if result.age_ms is not None else 0
            stamp = (node.get_clock().now() - Duration(nanoseconds=age_ns)).to_msg()
            publisher.publish(to_message(result, Header(stamp=stamp, frame_id=frame_id), vision_msgs.msg))
            rclpy.spin_once(node, timeout_sec=0)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
