"""Which family recognises which ONNX file, which are named where several fit, and what each makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgedet.class_names import COCO, COCO91, VOC
from edgedet.errors import ModelFileError, SpecError, UnknownHeadError
from edgedet.export.families import choose_family, families
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.runtime.heads import head_from_spec

P5, P6 = (8, 16, 32), (8, 16, 32, 64)
FLOAT = TensorProto.FLOAT


def rows_graph(new, size, strides, channels, *, per_cell=1, exp=False, power=False, image="images", name="output"):
    """One tensor of rows behind a sigmoid, with the operators of a decode where asked for."""
    graph = new(size, image=image)
    rows = graph.node("Sigmoid", [graph.rows(channels, strides, per_cell)])
    if exp:
        rows = graph.node("Exp", [rows])
    if power:
        rows = graph.node("Pow", [rows, graph.constant(np.array(2, np.float32))])
    graph.output(rows, name)
    return graph


def grids_graph(new, size, strides, channels, *, layout="NCHW", anchors=3, activate=False):
    """Raw maps in one of the four layouts; the outputs stand coarsest first, as darknet's do."""
    graph = new(size)
    for stride in reversed(strides):
        cells = graph.map(channels * anchors, stride)
        if activate:
            cells = graph.node("Sigmoid", [cells])
        if layout == "NHWC":
            cells = graph.node("Transpose", [cells], perm=[0, 2, 3, 1])
        elif layout in ("NKHWC", "NHWKC"):
            shape = graph.constant([0, anchors, channels, size[1] // stride, size[0] // stride])
            order = [0, 1, 3, 4, 2] if layout == "NKHWC" else [0, 3, 4, 1, 2]
            cells = graph.node("Transpose", [graph.node("Reshape", [cells, shape])], perm=order)
        graph.output(cells, f"grid_{stride}")
    return graph


def distance_graph(new, strides, classes, *, producer="pytorch", names="{what}_{stride}", interleaved=False):
    graph = new((320, 320))
    graph.producer = producer
    order = [(what, stride) for what in ("cls", "dis") for stride in strides]
    if interleaved:
        order.sort(key=lambda pair: pair[1])
    for what, stride in order:
        rows = graph.rows(classes if what == "cls" else 32, (stride,))
        graph.output(graph.node("Sigmoid", [rows]) if what == "cls" else rows, names.format(what=what, stride=stride))
    return graph


def pair_graph(new, size, count, columns, *, names=("boxes", "scores"), softmax=False, exp=False, layout="NCHW"):
    graph = new(size, layout=layout, dtype="uint8" if layout == "NHWC" else "float32")
    boxes, scores = graph.fixed(count, 4), graph.fixed(count, columns)
    graph.output(graph.node("Exp", [boxes]) if exp else boxes, names[0])
    graph.output(graph.node("Softmax", [scores], axis=2) if softmax else scores, names[1])
    return graph


def yolov5_with_metadata(new):
    graph = rows_graph(new, (640, 640), P5, 7, per_cell=3, power=True)
    graph.properties = {"stride": "32", "names": "{0: 'cat', 1: 'dog'}"}
    return graph


def yolov7_with_grids(new):
    graph = rows_graph(new, (640, 640), P5, 85, per_cell=3, power=True)
    shape = graph.constant([0, 3, 85, 80, 80])
    graph.output(
        graph.node("Transpose", [graph.node("Reshape", [graph.map(255, 8), shape])], perm=[0, 1, 3, 4, 2]), "528"
    )
    return graph


def yolov5_with_masks(new):
    graph = rows_graph(new, (640, 640), P5, 117, per_cell=3, power=True)
    graph.output(graph.map(32, 4), "prototypes")
    return graph


def fastestdet(new):
    graph = new((352, 352))
    scores = [
        graph.node("Sigmoid", [graph.map(1, 16)]),
        graph.map(4, 16),
        graph.node("Softmax", [graph.map(80, 16)], axis=1),
    ]
    graph.output(graph.node("Concat", scores, axis=1), "758")
    return graph


def centernet(new):
    graph = new((512, 512), layout="NHWC")
    graph.output(graph.fixed(100, 6), "detections")
    return graph


def detr_with_mask(new):
    graph = new(None, batch="batch", image="pixel_values")
    mask = graph.input("pixel_mask", TensorProto.INT64, ["batch", "height", "width"])
    seen = graph.node("Cast", [mask], to=FLOAT)
    share = graph.node("ReduceMean", [seen], axes=[1, 2], keepdims=1)
    graph.output(graph.node("Mul", [graph.fixed(100, 92), share]), "logits")
    graph.output(graph.node("Mul", [graph.fixed(100, 4), share]), "pred_boxes")
    return graph


def official_rtdetr(new):
    graph = new((640, 480), batch="N")
    sizes = graph.input("orig_target_sizes", TensorProto.INT64, ["N", 2])
    scale = graph.node("Cast", [graph.node("Concat", [sizes, sizes], axis=1)], to=FLOAT)
    boxes = graph.node("Mul", [graph.fixed(300, 4), graph.node("Unsqueeze", [scale, graph.constant([1])])])
    graph.output(graph.node("Cast", [graph.fixed(300)], to=TensorProto.INT64), "labels", TensorProto.INT64)
    graph.output(boxes, "boxes")
    graph.output(graph.fixed(300), "scores")
    return graph


# What the file is -> (graph, the family that recognises it or those that fit).
FILES = {
    "yolox raw at 416": (lambda new: rows_graph(new, (416, 416), P5, 85), "yolox"),
    "yolox raw, not square": (lambda new: rows_graph(new, (640, 352), P5, 8), "yolox"),
    "yolox decoded": (lambda new: rows_graph(new, (416, 416), P5, 85, exp=True), "yolox"),
    "yolov6 decoded": (lambda new: rows_graph(new, (640, 640), P5, 85, power=True), {"yolox", "yolov5"}),
    "yolov5 or 7 decoded": (
        lambda new: rows_graph(new, (640, 640), P5, 85, per_cell=3, power=True),
        {"yolov5", "yolov7"},
    ),
    "yolov5 p6 decoded": (
        lambda new: rows_graph(new, (1280, 1280), P6, 85, per_cell=3, power=True),
        {"yolov5", "yolov7"},
    ),
    "yolov5 with its metadata": (yolov5_with_metadata, "yolov5"),
    "yolov7 with its grids beside": (yolov7_with_grids, {"yolov5", "yolov7"}),
    "yolov5 with masks": (yolov5_with_masks, {"yolov5", "yolov7"}),
    "raw grids, NKHWC": (
        lambda new: grids_graph(new, (640, 640), P5, 85, layout="NKHWC"),
        {"yolov3", "yolov5", "yolov7"},
    ),
    "raw grids, NCHW": (lambda new: grids_graph(new, (416, 416), P5, 85), {"yolov3", "yolov5", "yolov7"}),
    "raw grids, two levels": (lambda new: grids_graph(new, (416, 416), (16, 32), 85), {"yolov3"}),
    "yolov2 coco": (lambda new: grids_graph(new, (608, 608), (32,), 85, anchors=5, layout="NHWKC"), "yolov2"),
    "yolov2 voc": (lambda new: grids_graph(new, (416, 416), (32,), 25, anchors=5), "yolov2"),
    "yolov2, own classes": (lambda new: grids_graph(new, (416, 416), (32,), 8, anchors=5), {"yolov2", "segmentation"}),
    "picodet": (lambda new: distance_graph(new, P6, 80, producer="PaddlePaddle"), "picodet"),
    "nanodet-plus": (lambda new: rows_graph(new, (416, 416), P6, 112, image="data"), "nanodet"),
    "nanodet-plus, own classes": (lambda new: rows_graph(new, (320, 320), P6, 33, image="data"), "nanodet"),
    "first nanodet": (lambda new: distance_graph(new, P5, 80, names="{what}_pred_stride_{stride}"), "nanodet"),
    "distances of no name": (lambda new: distance_graph(new, P5, 3, interleaved=True), {"picodet", "nanodet"}),
    "fastestdet": (fastestdet, "fastestdet"),
    "one map of stride 16": (
        lambda new: grids_graph(new, (352, 352), (16,), 85, anchors=1),
        {"fastestdet", "segmentation"},
    ),
    "centernet": (centernet, "centernet"),
    "rows of no name": (lambda new: rows_graph(new, (512, 512), (512,), 6), {"centernet"}),
    "ssd300, raw": (lambda new: pair_graph(new, (300, 300), 8732, 21), "ssd"),
    "retinanet, torchvision's names": (
        lambda new: pair_graph(new, (256, 256), 12276, 91, names=("bbox_regression", "cls_logits")),
        "retinanet",
    ),
    "retinanet or efficientdet": (lambda new: pair_graph(new, (256, 256), 12276, 90), {"ssd", "retinanet"}),
    "detr": (lambda new: pair_graph(new, (800, 800), 100, 92, names=("pred_boxes", "pred_logits")), "detr"),
    "detr with pixel_mask": (detr_with_mask, "detr"),
    "some detr kin": (lambda new: pair_graph(new, (640, 640), 300, 80, names=("b", "logits")), {"detr", "rtdetr"}),
    "official rt-detr": (official_rtdetr, "rtdetr"),
    "a classifier": (lambda new: rows_graph(new, (224, 224), (224,), 1000), set()),
}


@pytest.mark.parametrize(("make", "expected"), FILES.values(), ids=FILES)
def test_is_recognised_or_the_message_names_what_fits(make, expected, new_graph, write_onnx):
    source = write_onnx(make(new_graph))
    if isinstance(expected, str):
        assert choose_family(source, ExportRequest(source.path)).name == expected
        return
    with pytest.raises(UnknownHeadError) as error:
        choose_family(source, ExportRequest(source.path))
    named = error.value.got.partition("which fits ")[2]
    assert (set() if named == "none of the known ones" else set(named.split(", "))) == expected


@pytest.mark.parametrize(
    ("file", "family"),
    [
        ("yolox_nano_416", "yolox"),
        ("picodet_s_416_coco", "picodet"),
        ("FastestDet", "fastestdet"),
        ("ssd_mobilenet_v1_coco_300_raw", "ssd"),
        ("ultraface_rfb_320", "ssd"),
        ("centernet_mobilenetv3_512", "centernet"),
        ("deeplabv3_mobilenetv2_pascal_513", "segmentation"),
    ],
)
def test_real_models_are_recognised(shared, file, family):
    source = open_source(shared / "models" / f"{file}.onnx")
    assert choose_family(source, ExportRequest(source.path)).name == family


@pytest.mark.parametrize(
    ("file", "head", "classes", "fed"),
    [
        ("yolox_nano_416", "yolox_grid", 80, ("NCHW", "BGR", "letterbox", "bottom_right")),
        ("picodet_s_416_coco", "distance_distributions", 80, ("NCHW", "RGB", "stretch", "center")),
        ("FastestDet", "fastestdet", 80, ("NCHW", "BGR", "stretch", "center")),
        ("ssd_mobilenet_v1_coco_300_raw", "anchor_boxes", 90, ("NHWC", "RGB", "stretch", "center")),
        ("ultraface_rfb_320", "anchor_boxes", 1, ("NCHW", "RGB", "stretch", "center")),
        ("centernet_mobilenetv3_512", "end_to_end", 80, ("NHWC", "RGB", "stretch", "center")),
    ],
)
def test_real_models_are_read(shared, file, head, classes, fed):
    source = open_source(shared / "models" / f"{file}.onnx")
    anchors = np.load(shared / "models" / "ssd_mobilenet_v1_anchors_cycxhw.npy") if file.startswith("ssd") else None
    request = ExportRequest(source.path, anchors=anchors)
    loaded = choose_family(source, request).load(source, request)
    assert loaded.head.name == head and len(loaded.class_names) == classes
    assert (loaded.input.layout, loaded.input.channels, loaded.input.resize, loaded.input.pad_position) == fed
    checks_out(loaded)


LEVELS = {stride: f"grid_{stride}" for stride in P6}

# (file, --family) -> (head, some of its parameters, some of its input, names, outputs)
READINGS = [
    ("yolox raw at 416", "yolox", "yolox_grid", {"strides": [8, 16, 32], "activated": True},
     {"channels": "BGR", "std": [1, 1, 1], "pad_position": "bottom_right", "pad_value": 114}, COCO, ["output"]),
    ("yolox decoded", "yolox", "dense_boxes", {"objectness": True, "layout": "anchors_first"}, {"width": 416},
     COCO, ["output"]),
    ("yolov6 decoded", "yolov5", "dense_boxes", {"objectness": True}, {"channels": "RGB"}, COCO, ["output"]),
    ("yolov5 or 7 decoded", "yolov7", "dense_boxes", {"objectness": True, "mask_coefficients": 0},
     {"resize": "letterbox", "pad_position": "center", "std": [255, 255, 255]}, COCO, ["output"]),
    ("yolov5 with its metadata", "yolov5", "dense_boxes", {}, {}, ("cat", "dog"), ["output"]),
    ("yolov7 with its grids beside", "yolov7", "dense_boxes", {}, {}, COCO, ["output"]),
    ("yolov5 with masks", "yolov5", "dense_boxes", {"mask_coefficients": 32}, {}, COCO, ["output", "prototypes"]),
    ("raw grids, NKHWC", "yolov5", "anchor_grid",
     {"layout": "NKHWC", "box_decode": "sigmoid_squared", "strides": [8, 16, 32]}, {}, COCO, [LEVELS[s] for s in P5]),
    ("raw grids, NCHW", "yolov3", "anchor_grid", {"layout": "NCHW", "box_decode": "exp", "scale_xy": []},
     {"resize": "stretch"}, COCO, [LEVELS[s] for s in P5]),
    ("raw grids, NCHW", "yolov3:yolov4", "anchor_grid", {"scale_xy": [1.2, 1.1, 1.05]}, {}, COCO, None),
    ("raw grids, two levels", "yolov3:yolov4-tiny", "anchor_grid",
     {"scale_xy": [1.05, 1.05], "strides": [16, 32]}, {}, COCO, ["grid_16", "grid_32"]),
    ("yolov2 coco", "yolov2", "anchor_grid", {"layout": "NHWC", "class_activation": "softmax", "strides": [32]},
     {"width": 608}, COCO, ["grid_32_joined"]),
    ("yolov2 voc", "yolov2", "anchor_grid", {"layout": "NCHW"}, {}, VOC, ["grid_32"]),
    ("picodet", "picodet", "distance_distributions",
     {"strides": [8, 16, 32, 64], "bins": 8, "cell_offset": 0.5, "activated": True},
     {"channels": "RGB", "resize": "stretch", "mean": [123.675, 116.28, 103.53]}, COCO,
     [f"{what}_{stride}" for what in ("cls", "dis") for stride in P6]),
    ("nanodet-plus", "nanodet", "distance_distributions", {"packing": "concatenated", "cell_offset": 0},
     {"channels": "BGR", "resize": "stretch", "mean": [103.53, 116.28, 123.675]}, COCO, ["output"]),
    ("first nanodet", "nanodet", "distance_distributions", {"cell_offset": 0.5, "strides": [8, 16, 32]},
     {"resize": "letterbox", "pad_value": 0}, COCO, None),
    ("distances of no name", "picodet", "distance_distributions", {"strides": [8, 16, 32]}, {}, None,
     ["cls_8", "cls_16", "cls_32", "dis_8", "dis_16", "dis_32"]),
    ("fastestdet", "fastestdet", "fastestdet", {}, {"channels": "BGR", "resize": "stretch"}, COCO, ["758"]),
    ("centernet", "centernet", "end_to_end", {"packing": "rows"}, {"layout": "NHWC", "std": [1, 1, 1]},
     COCO, ["detections"]),
    ("detr", "detr", "queries", {"activation": "softmax", "no_object": True}, {"resize": "stretch"}, COCO91,
     ["pred_logits", "pred_boxes"]),
    ("detr with pixel_mask", "detr", "queries", {"no_object": True}, {"width": 800, "batch": 1}, COCO91,
     ["logits", "pred_boxes"]),
    ("some detr kin", "detr:deformable", "queries", {"activation": "sigmoid", "no_object": False},
     {"mean": [123.675, 116.28, 103.53]}, COCO, ["logits", "b"]),
    ("some detr kin", "rtdetr", "queries", {"activation": "sigmoid", "no_object": False}, {"mean": [0, 0, 0]},
     COCO, None),
    ("official rt-detr", "rtdetr", "end_to_end", {"packing": "separate", "normalized": False},
     {"width": 640, "height": 480, "batch": None}, COCO, ["boxes", "scores", "labels"]),
    ("retinanet, torchvision's names", "retinanet", "anchor_boxes",
     {"variances": [1, 1, 1, 1], "activation": "sigmoid", "background": None}, {"resize": "stretch"}, COCO91,
     ["bbox_regression", "cls_logits"]),
]  # fmt: skip


@pytest.mark.parametrize(("file", "family", "head", "parameters", "fed", "names", "outputs"), READINGS)
def test_is_read_as_the_family_says(file, family, head, parameters, fed, names, outputs, new_graph, write_onnx):
    source = write_onnx(FILES[file][0](new_graph))
    request = ExportRequest(source.path, family=family)
    loaded = choose_family(source, request).load(source, request)
    found = json.loads(json.dumps(loaded.head.spec().parameters))
    assert loaded.head.name == head
    assert {name: found[name] for name in parameters} == parameters
    for name, value in fed.items():
        assert getattr(loaded.input, name) == (tuple(value) if isinstance(value, list) else value)
    assert loaded.class_names == names
    if outputs is not None:
        assert list(loaded.output_names) == outputs
    checks_out(loaded)


def checks_out(loaded) -> None:
    """The head accepts the network that goes with it, and the network runs."""
    import onnxruntime

    from edgedet.export.onnx_file import graph_outputs

    by_name = {output.name: output for output in graph_outputs(loaded.network)}
    outputs = [by_name[name] for name in loaded.output_names]
    spec = loaded.input
    classes = len(loaded.class_names or "abc")
    head_from_spec(loaded.head.spec()).check(outputs, classes, (spec.width, spec.height))
    onnx.checker.check_model(loaded.network)
    session = onnxruntime.InferenceSession(loaded.network.SerializeToString(), providers=["CPUExecutionProvider"])
    (fed,) = session.get_inputs()
    shape = (1, 3, spec.height, spec.width) if spec.layout == "NCHW" else (1, spec.height, spec.width, 3)
    session.run(list(loaded.output_names), {fed.name: np.zeros(shape, spec.dtype)})


@pytest.mark.parametrize(
    ("file", "family", "changes", "expected"),
    [
        ("raw grids, two levels", "yolov5", {}, "--anchors"),
        ("raw grids, NKHWC", "yolov7:yolov7-tin", {}, "yolov7-tiny"),
        ("raw grids, NCHW", "yolov3", {"anchors": np.ones((4, 2), np.float32)}, "--anchors"),
        ("ssd300, raw", "ssd", {}, "ssd:caffe"),
        ("ssd300, raw", "ssd:caffe", {}, "--anchors"),
        ("ssd300, raw", "ssd:caffe", {"anchors": np.ones((9, 4), np.float32)}, "(8732, 4)"),
        ("retinanet or efficientdet", "retinanet", {"anchors": np.ones((9, 4), np.float32)}, "--anchors"),
        ("yolov6 decoded", "yolox", {}, "--spec"),
        ("fastestdet", "yolox", {}, "Name another --family"),
        ("picodet", "yolov3", {}, "Name another --family"),
        ("centernet", "picodet", {}, "--family"),
        ("picodet", "ssd", {}, "--family"),
        ("picodet", "fastestdet", {}, "--family"),
        ("picodet", "detr", {}, "--family"),
        ("picodet", "rtdetr", {}, "--family"),
        ("picodet", "centernet", {}, "--family"),
        ("picodet", "retinanet", {}, "--family"),
        ("fastestdet", "nanodet", {}, "--family"),
        ("official rt-detr", "yolov5", {}, "Export it without the others"),
        ("yolox raw at 416", "yolov5", {}, "Name another --family"),
        ("picodet", "picodet:large", {}, "nothing after --family picodet:"),
        ("detr", "detr:conditional", {}, "deformable"),
        ("ssd300, raw", "ssd:mmdet", {}, "torchvision"),
        ("yolov5 or 7 decoded", "yolov5", {"anchors": np.ones((9, 2), np.float32)}, "Leave out --anchors"),
        ("fastestdet", "fastestdet", {"anchors": np.ones((9, 2), np.float32)}, "Leave out --anchors"),
        ("detr", "edgedet", {}, "--spec"),
    ],
)
def test_what_is_missing_is_named_with_its_flag(file, family, changes, expected, new_graph, write_onnx):
    source = write_onnx(FILES[file][0](new_graph))
    request = ExportRequest(source.path, family=family, **changes)
    with pytest.raises(SpecError) as error:
        choose_family(source, request).load(source, request)
    assert expected in str(error.value)


def test_activated_grids_are_refused(new_graph, write_onnx):
    source = write_onnx(grids_graph(new_graph, (416, 416), P5, 85, activate=True))
    request = ExportRequest(source.path, family="yolov5")
    with pytest.raises(SpecError, match="has applied Sigmoid"):
        choose_family(source, request).load(source, request)


@pytest.mark.parametrize("name", ["yolov5", "ssd", "detr", "edgedet"])
def test_a_checkpoint_is_no_onnx_file(tmp_path, name):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"\x80\x02}q\x00.")
    request = ExportRequest(path, family=name)
    with pytest.raises(ModelFileError, match="Export it to ONNX"):
        choose_family(open_source(path), request).load(open_source(path), request)


@pytest.mark.parametrize(
    ("file", "family", "fragment", "expected"),
    [
        (
            "raw grids, two levels",
            "yolov5",
            {"parameters": {"anchors": [[[1, 2]] * 3] * 2}},
            {"anchors": [[[1, 2]] * 3] * 2},
        ),
        ("ssd300, raw", "ssd:caffe", {"parameters": {"anchors": [[1, 2, 3, 4]] * 8732}}, {"background": 0}),
        ("picodet", "picodet", {"parameters": {"cell_offset": 0}}, {"cell_offset": 0, "bins": 8}),
        ("yolov6 decoded", "yolox", {"name": "yolox_grid"}, {"activated": True}),
        ("yolov6 decoded", "yolox", {"name": "dense_boxes", "parameters": {"objectness": True}}, {"objectness": True}),
    ],
)
def test_a_fragment_supplies_what_the_family_lacks(file, family, fragment, expected, new_graph, write_onnx):
    source = write_onnx(FILES[file][0](new_graph))
    request = ExportRequest(source.path, family=family, fragment={"head": fragment})
    found = json.loads(json.dumps(choose_family(source, request).load(source, request).head.spec().parameters))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("file", "family", "first", "last"),
    [
        ("raw grids, NCHW", "yolov3", (10, 13), (373, 326)),
        ("raw grids, NCHW", "yolov3:yolov4", (12, 16), (459, 401)),
        ("raw grids, NCHW", "yolov3:yolov4-csp", (12, 16), (459, 401)),
        ("raw grids, two levels", "yolov3", (10, 14), (344, 319)),
        ("raw grids, two levels", "yolov3:yolov4-tiny", (23, 27), (344, 319)),
        ("raw grids, NCHW", "yolov5", (10, 13), (373, 326)),
        ("raw grids, NKHWC", "yolov7", (12, 16), (459, 401)),
        ("raw grids, NKHWC", "yolov7:yolov7-tiny", (10, 13), (373, 326)),
        ("yolov2 coco", "yolov2", (0.57273 * 32, 0.677385 * 32), (9.77052 * 32, 9.16828 * 32)),
        ("yolov2 voc", "yolov2:yolov2-voc", (1.3221 * 32, 1.73145 * 32), (11.2364 * 32, 10.0071 * 32)),
    ],
)
def test_published_anchors_go_from_the_finest_level_up(file, family, first, last, new_graph, write_onnx):
    source = write_onnx(FILES[file][0](new_graph))
    request = ExportRequest(source.path, family=family)
    head = choose_family(source, request).load(source, request).head
    assert list(head.strides) == sorted(head.strides)
    assert head.anchors[0][0] == pytest.approx(first) and head.anchors[-1][-1] == pytest.approx(last)


def test_anchors_of_a_file_are_taken_level_by_level(new_graph, write_onnx):
    source = write_onnx(FILES["raw grids, NCHW"][0](new_graph))
    anchors = np.arange(18, dtype=np.float32).reshape(3, 3, 2) + 1
    request = ExportRequest(source.path, family="yolov3", anchors=anchors)
    np.testing.assert_array_equal(choose_family(source, request).load(source, request).head.anchors, anchors)


def test_yolov2_takes_anchors_in_cells_as_darknet_writes_them(new_graph, write_onnx):
    source = write_onnx(FILES["yolov2 voc"][0](new_graph))
    anchors = np.array([[1.08, 1.19], [3.42, 4.41], [6.63, 11.38], [9.42, 5.11], [16.62, 10.52]], np.float32)
    given = ExportRequest(source.path, family="yolov2", anchors=anchors)
    published = ExportRequest(source.path, family="yolov2:yolov2-tiny-voc")
    heads = [choose_family(source, request).load(source, request).head for request in (given, published)]
    np.testing.assert_allclose(heads[0].anchors, heads[1].anchors, rtol=1e-6)
    assert heads[1].anchors[0][0] == pytest.approx((1.08 * 32, 1.19 * 32))


@pytest.mark.parametrize(
    ("variant", "order", "scale", "columns", "names"),
    [
        ("tf", [1, 0, 3, 2], 1, 91, COCO91[1:]),
        ("caffe", [0, 1, 2, 3], 300, 21, VOC),
        ("torchvision", [0, 1, 2, 3], 1, 3, None),
    ],
)
def test_ssd_anchors_come_out_in_pixels_centre_first(variant, order, scale, columns, names, new_graph, write_onnx):
    source = write_onnx(pair_graph(new_graph, (300, 200), 1111, columns))
    pixels = np.random.default_rng(1).uniform(10, 200, (1111, 4)).astype(np.float32)
    fractions = pixels / np.array([300, 200, 300, 200], np.float32)
    given = (fractions if scale == 1 else pixels)[:, order]
    request = ExportRequest(source.path, family=f"ssd:{variant}", anchors=given)
    loaded = choose_family(source, request).load(source, request)
    np.testing.assert_allclose(loaded.head.anchors, pixels, rtol=1e-5)
    assert loaded.head.box_order == ("yxhw" if variant == "tf" else "xywh")
    assert loaded.head.activation == ("sigmoid" if variant == "tf" else "softmax") and loaded.head.background == 0
    assert loaded.class_names == names


def test_ssd_decoded_in_the_graph_needs_no_anchors(new_graph, write_onnx):
    source = write_onnx(pair_graph(new_graph, (320, 240), 4420, 2, softmax=True, exp=True))
    loaded = choose_family(source, ExportRequest(source.path)).load(source, ExportRequest(source.path))
    assert loaded.head.anchors is None and loaded.head.normalized and loaded.head.activation == "none"
    assert loaded.class_names == ("face",) and loaded.input.mean == (127, 127, 127)


def test_uint8_pictures_are_normalised_by_the_network(new_graph, write_onnx):
    source = write_onnx(pair_graph(new_graph, (300, 300), 1917, 91, layout="NHWC"))
    request = ExportRequest(source.path, anchors=np.ones((1917, 4), np.float32))
    loaded = choose_family(source, request).load(source, request)
    assert (loaded.input.dtype, loaded.input.layout) == ("uint8", "NHWC")
    assert (loaded.input.mean, loaded.input.std) == ((0, 0, 0), (1, 1, 1))


def test_open_sizes_are_settled_and_asked_ones_win(new_graph, write_onnx):
    graph = new_graph(None, batch="batch")
    graph.output(graph.node("Sigmoid", [graph.rows(85, P5)]), "output")
    source = write_onnx(graph)
    for size, expected in ((None, (640, 640)), ((320, 256), (320, 256))):
        request = ExportRequest(source.path, family="yolox", size=size)
        loaded = choose_family(source, request).load(source, request)
        assert (loaded.input.width, loaded.input.height) == expected and loaded.input.batch is None
        assert any("leaves the input size open" in note for note in loaded.notes) is (size is None)


def test_the_official_rtdetr_answers_in_input_pixels(new_graph, write_onnx):
    import onnxruntime

    source = write_onnx(official_rtdetr(new_graph))
    loaded = choose_family(source, ExportRequest(source.path)).load(source, ExportRequest(source.path))
    picture = {"images": np.ones((2, 3, 480, 640), np.float32)}
    asked = {**picture, "orig_target_sizes": np.array([[640, 480]] * 2, np.int64)}
    found = onnxruntime.InferenceSession(loaded.network.SerializeToString()).run(["boxes"], picture)
    expected = onnxruntime.InferenceSession(str(source.path)).run(["boxes"], asked)
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize(
    ("file", "family", "changes", "note"),
    [
        ("yolov2 voc", "yolov2", {}, "the 20 of VOC"),
        ("picodet", "picodet", {}, "the 80 of COCO"),
        ("picodet", "picodet", {"class_names": ("a",) * 80}, None),
        ("yolov5 with its metadata", "yolov5", {}, None),
    ],
)
def test_class_names_that_were_guessed_are_noted(file, family, changes, note, new_graph, write_onnx):
    source = write_onnx(FILES[file][0](new_graph))
    request = ExportRequest(source.path, family=family, **changes)
    notes = choose_family(source, request).load(source, request).notes
    assert [text for text in notes if "names no classes" in text and (note or "") in text] == (
        [] if note is None else [f"The file names no classes; {note} were taken (--names sets others)"]
    )


def test_every_family_says_what_it_takes():
    for name, family in families().items():
        assert family.name == name and family.takes and len(family.takes) < 200


def test_recognising_reads_no_more_than_it_must(tmp_path: Path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.")
    source = open_source(path)
    onnx_families = ("edgedet", "yolox", "yolov5", "yolov7", "yolov3", "yolov2", "picodet", "nanodet", "fastestdet")
    for name in (*onnx_families, "ssd", "retinanet", "centernet", "detr", "rtdetr"):
        assert not families()[name].recognises(source) and not families()[name].fits(source)
