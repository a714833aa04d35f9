# SPDX-License-Identifier: MIT
# A small image with the emulator as its entry point:
#
#   docker build -t fakeqemu .
#   docker run --rm -p 127.0.0.1:4444:4444 fakeqemu -machine q35 -nodefaults -display none -S -qmp tcp:0.0.0.0:4444,server=on,wait=off
#
# The health check asks query-status of the monitor that FAKEQEMU_HEALTH_QMP names.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY schemas ./schemas
COPY fakeqemu ./fakeqemu
RUN python -m venv /opt/fakeqemu \
 && /opt/fakeqemu/bin/pip install --no-cache-dir --disable-pip-version-check '.[client]'

FROM python:3.13-slim
COPY --from=build /opt/fakeqemu /opt/fakeqemu
RUN useradd --uid 10001 --create-home --home-dir /var/lib/fakeqemu --shell /usr/sbin/nologin fakeqemu
USER 10001:10001
WORKDIR /var/lib/fakeqemu
ENV PATH=/opt/fakeqemu/bin:$PATH \
    FAKEQEMU_HEALTH_QMP=unix:/var/lib/fakeqemu/health.sock
EXPOSE 4444
HEALTHCHECK --interval=5s --timeout=3s --start-period=2s --retries=3 CMD ["fakeqemu", "health"]
ENTRYPOINT ["fakeqemu-system-x86_64"]
CMD ["-machine", "none", "-nodefaults", "-display", "none", "-qmp", "tcp:0.0.0.0:4444,server=on,wait=off", "-qmp", "unix:/var/lib/fakeqemu/health.sock,server=on,wait=off"]
