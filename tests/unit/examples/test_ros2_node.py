"""What the ROS 2 example puts into its messages; rclpy comes with ROS only, so the node itself is not run.

The classes have the fields of the published definitions (ros-perception/vision_msgs, branch ros2, version 4) and no
others: a name that is not in there raises AttributeError.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from example_programs import EXAMPLES
from sink_results import sink_result


@dataclass(slots=True)
class Point2D:
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Pose2D:
    position: Point2D = field(default_factory=Point2D)
    theta: float = 0.0


@dataclass(slots=True)
class BoundingBox2D:
    center: Pose2D = field(default_factory=Pose2D)
    size_x: float = 0.0
    size_y: float = 0.0


@dataclass(slots=True)
class ObjectHypothesis:
    class_id: str = ""
    score: float = 0.0


@dataclass(slots=True)
class ObjectHypothesisWithPose:
    hypothesis: ObjectHypothesis = field(default_factory=ObjectHypothesis)
    pose: object = None


@dataclass(slots=True)
class Detection2D:
    header: object = None
    results: list[ObjectHypothesisWithPose] = field(default_factory=list)
    bbox: BoundingBox2D = field(default_factory=BoundingBox2D)
    id: str = ""


@dataclass(slots=True)
class Detection2DArray:
    header: object = None
    detections: list[Detection2D] = field(default_factory=list)


MESSAGES = SimpleNamespace(
    Detection2DArray=Detection2DArray, Detection2D=Detection2D, ObjectHypothesisWithPose=ObjectHypothesisWithPose
)


@pytest.fixture
def node() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgedet_example_ros2", EXAMPLES / "09_ros2_node.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_message_has_centres_sizes_names_and_ids(node: ModuleType):
    result = sink_result()
    tracked = replace(result, answer=replace(result.detections, track_id=np.array([7, -1])))
    header = object()
    message = node.to_message(tracked, header, MESSAGES)
    dog, cat = message.detections
    assert message.header is dog.header is header
    assert dog.bbox == BoundingBox2D(Pose2D(Point2D(15.75, 21.0)), 28.5, 38.0)
    assert cat.bbox == BoundingBox2D(Pose2D(Point2D(12.625, 18.0)), 15.25, 24.0)
    assert [(each.id, each.results[0].hypothesis.class_id) for each in message.detections] == [
        ("7", "dog"),
        ("", "cat"),
    ]
    assert dog.results[0].hypothesis.score == pytest.approx(0.9)
    # ROS checks types: a NumPy number is none of Python's.
    numbers = (dog.bbox.center.position.x, dog.bbox.size_y, dog.results[0].hypothesis.score)
    assert {type(number) for number in numbers} == {float}


def test_a_message_of_nothing(node: ModuleType):
    assert node.to_message(sink_result(objects=0), None, MESSAGES) == Detection2DArray()
