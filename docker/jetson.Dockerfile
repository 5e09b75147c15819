# edgedet in NVIDIA's container for Jetson. Not built by this project's tests: there is no Jetson among its machines.
#
#   docker build -f docker/jetson.Dockerfile --build-arg BASE=IMAGE -t edgedet .
#   docker run --rm -it --runtime nvidia --device /dev/video0 -v edgedet-cache:/home/edgedet/.cache edgedet doctor
#
# IMAGE is NVIDIA's l4t-jetpack of the release that runs on the device (`cat /etc/nv_tegra_release`): it brings CUDA and
# TensorRT with its Python module, which an environment that sees the system's packages can import.
ARG BASE
FROM ${BASE}

RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv python3-libnvinfer \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --groups video edgedet

COPY . /src
RUN python3 -m venv --system-site-packages /opt/edgedet \
 && /opt/edgedet/bin/pip install --no-cache-dir --constraint /src/constraints.txt '/src[cuda,sign]' \
 && rm -rf /src

USER edgedet
WORKDIR /home/edgedet
ENTRYPOINT ["/opt/edgedet/bin/edgedet"]
CMD ["doctor"]
