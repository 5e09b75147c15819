"""Writes down the Python API of one version of TensorRT: ``python write.py FOLDER OUT.json``.

FOLDER is an unpacked wheel of TensorRT's bindings (``tensorrt-cu12-bindings``). They are imported over stand-ins for
the few C symbols that they link to, so neither TensorRT nor a GPU is needed; nothing can be created with them, but
names, signatures and enumerations are the real ones. Only what edgedet uses is kept.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)

CLASSES = (
    "Builder",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IErrorRecorder",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
)

ENUMS = (
    "BuilderFlag",
    "DataType",
    "DeviceType",
    "ErrorCodeTRT",
    "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel",
    "LayerInformationFormat",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParserFlag",
    "ProfilingVerbosity",
    "TensorIOMode",
    "TensorLocation",
)


def import_bindings(folder: Path) -> Any:
    """Import the bindings of an unpacked wheel."""
    library = next(folder.glob("tensorrt*_bindings/tensorrt*.so"))
    wanted = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "symbols.c")
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
        for needed in re.findall(r"\[(libnv\S+?)\]", wanted):
            made = Path(name, needed)
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-w", str(source), "-o", str(made), f"-Wl,-soname,{needed}"], check=True
            )
            ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL)
        sys.path.insert(0, str(folder))
        return importlib.import_module(library.parent.name)


def signatures(function: Any) -> list[dict[str, Any]]:
    """Return parameters (those that may be left out marked) and what comes back, for each overload."""
    found = []
    for line in (inspect.getdoc(function) or "").splitlines():
        match = re.fullmatch(r"(?:\d+\. )?\w+\((.*)\) -> (.+)", line)
        if match and "*args" not in match[1]:
            parts = [part for part in split(match[1]) if part.split(":")[0].strip() != "self"]
            parameters = [part.split(":")[0].strip() + ("=" if "=" in part else "") for part in parts]
            found.append({"parameters": parameters, "returns": match[2].split(".")[-1]})
    return found


def split(text: str) -> list[str]:
    """Split a list of parameters at the commas that are not inside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[<(") - (letter in "]>)")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def describe(owner: Any) -> dict[str, Any]:
    """Return the methods, properties and inner enumerations of a class."""
    methods: dict[str, Any] = {}
    properties: dict[str, str] = {}
    for name in dir(owner):
        value = inspect.getattr_static(owner, name)
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            properties[name] = "rw" if value.fset else "r"
        elif callable(getattr(owner, name)) and not inspect.isclass(getattr(owner, name)):
            methods[name] = signatures(getattr(owner, name))
    return {"methods": methods, "properties": properties}


def main(folder: Path, out: Path) -> None:
    """Write the file."""
    trt = import_bindings(folder)
    surface = {
        "version": trt.__version__,
        "classes": {name: describe(getattr(trt, name)) for name in CLASSES if hasattr(trt, name)},
        "enums": {
            name: {key: int(value) for key, value in getattr(trt, name).__members__.items()}
            for name in ENUMS
            if hasattr(trt, name)
        },
        "severities": {key: int(value) for key, value in trt.ILogger.Severity.__members__.items()},
        "functions": {"init_libnvinfer_plugins": signatures(trt.init_libnvinfer_plugins)},
    }
    out.write_text(json.dumps(surface, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
