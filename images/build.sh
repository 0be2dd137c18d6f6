#!/usr/bin/env bash
# Builds the four images, and pushes them where asked:
#
#   images/build.sh registry.example/lab 0.1.0            build
#   images/build.sh registry.example/lab 0.1.0 --push     build, push, print each one's digest for the chart's values
#
# TOOL says what builds (docker; podman takes the same words, and buildah those for building), BASE replaces the Dockerfiles' base image,
# IMAGES names some of the four, FLAGS are passed to every build.
set -euo pipefail
cd "$(dirname "$0")/.."
registry=${1:?a registry and a path in it} tag=${2:?a tag} push=${3:-}
read -ra tool <<<"${TOOL:-docker}"
read -ra flags <<<"${FLAGS:-}"
[[ -z ${BASE:-} ]] || flags+=(--build-arg "BASE=$BASE")

for name in ${IMAGES:-controller grade train evaluate}; do
  image=$registry/potstill-$name:$tag
  "${tool[@]}" build "${flags[@]}" --file "images/$name.Dockerfile" --tag "$image" .
  if [[ $push == --push ]]; then
    "${tool[@]}" push "$image"
    "${tool[@]}" image inspect --format '{{index .RepoDigests 0}}' "$image"
  fi
done
