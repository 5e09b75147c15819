"""A robot that stops before what a camera sees: it subscribes to detections and commands the motors.

mosquitto                                                                                (a broker, apt install)
python examples/06_mqtt_robot.py --stop-for 7                                            (this, in another terminal)
edgedet run edgedet/demo/digits.int8.onnx --source edgedet/demo/digits.mp4 --mqtt mqtt://localhost/robot/camera

With a camera and a model of yours: edgedet run MODEL --source 0 --mqtt ..., and --stop-for person here. Camera and
robot are programs of their own, on one machine or two: either may end, and no news is bad news. Needs paho-mqtt: pip
install 'edgedet[mqtt]'.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
from typing import Any

import paho.mqtt.client as mqtt

SILENCE_S = 1.0
"""Without a message for so long the robot stops: camera, network or broker is gone."""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--broker", default="localhost:1883", metavar="HOST:PORT")
parser.add_argument("--topic", default="robot/camera", help="what edgedet run publishes to")
parser.add_argument("--stop-for", default="person", metavar="CLASS", help="what to stop for")
parser.add_argument("--near", type=float, default=0.25, help="share of the picture's height from which it is near")
arguments = parser.parse_args()


def decide(message: mqtt.MQTTMessage) -> tuple[str, str] | None:
    """Return the command and why; None where a message is no reason to change anything."""
    if message.topic != arguments.topic:
        return ("stop", "the camera has ended") if message.payload == b"offline" else None
    result = json.loads(message.payload)
    least = arguments.near * result["height"]  # a camera without depth knows no better than: it is tall
    found = [item for item in result["detections"] if item["class_name"] == arguments.stop_for]
    near = any(item["box"][3] - item["box"][1] >= least for item in found)
    return ("stop", f"{arguments.stop_for} is near") if near else ("go", "all clear")


def on_connect(client: mqtt.Client, *_: Any) -> None:
    """Subscribe, also after the broker was away."""
    client.subscribe([(arguments.topic, 0), (f"{arguments.topic}/status", 1)])
    print(f"Waiting for '{arguments.topic}'", flush=True)


messages: queue.SimpleQueue[mqtt.MQTTMessage] = queue.SimpleQueue()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = on_connect
client.on_message = lambda client, data, message: messages.put(message)
client.will_set("robot/command", "stop", qos=1, retain=True)  # the broker says it if this program dies
host, _, port = arguments.broker.rpartition(":")
try:
    client.connect(host, int(port), keepalive=2)
except OSError as error:
    sys.exit(f"No MQTT broker at {arguments.broker} ({error.strerror or error}): start one with: mosquitto")
client.loop_start()

last = None
while True:
    try:
        decision = decide(messages.get(timeout=SILENCE_S))
    except queue.Empty:
        decision = "stop", f"nothing heard for {SILENCE_S:g} s"
    except (ValueError, KeyError, TypeError) as error:
        decision = "stop", f"a message that is none of edgedet's ({error!r})"
    if decision not in (None, last):
        last = command, reason = decision
        client.publish("robot/command", command, qos=1, retain=True)
        print(f"{command}: {reason}", flush=True)
