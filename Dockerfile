# tradebft, for docker-compose.yml: a node, a client, or the workload driver, whatever the command says.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}

COPY . /src
RUN python3 -m venv /opt/tradebft \
 && /opt/tradebft/bin/pip install --no-cache-dir --disable-pip-version-check /src \
 && cp /src/docker/found /src/docker/healthy /usr/local/bin/ \
 && chmod 755 /usr/local/bin/found /usr/local/bin/healthy \
 && rm -rf /src \
 && useradd --uid 10001 --create-home --home-dir /var/lib/tradebft tradebft
ENV PATH=/opt/tradebft/bin:$PATH
USER tradebft
WORKDIR /var/lib/tradebft
