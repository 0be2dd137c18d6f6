#!/usr/bin/env bash
# A candidate against a baseline, from any CI: evaluated on the cluster, judged from the store. Needs potstill.
#
#   regression.sh submit TEMPLATE (--adapter URI | --model URI) [--label TEXT] [--content SHA256]
#       Applies the template with the candidate put in, and ends: seconds. Needs KUBECONFIG, and read access to the
#       candidate's bucket unless --content is given. Leaves experiment.yaml and manifest-url.
#   regression.sh gate [MANIFEST-URL]
#       Waits for the evaluation at most REGRESSION_WAIT_MINUTES (30), then judges. Needs read access to the store, and
#       nothing else. Leaves junit.xml, gate.json, summary.md and comment.md; ends with the gate's exit code: 0 pass, 1 fail,
#       2 wrong use, 3 not enough evidence, 4 could not be evaluated (or not yet: call it again, no work is repeated).
#
# Files go to REGRESSION_OUT (regression/). REGRESSION_NAMESPACE: where the Experiment is applied, if not where the
# kubeconfig says. The store is reached with AWS_* variables, and POTSTILL_S3_ENDPOINT if it is not AWS.
set -euo pipefail
out=${REGRESSION_OUT:-regression}

submit() {
  local where=()
  if [[ -n ${REGRESSION_NAMESPACE:-} ]]; then where=(--namespace "$REGRESSION_NAMESPACE"); fi
  potstill candidate "$@" --out "$out/experiment.yaml"
  potstill submit "$out/experiment.yaml" "${where[@]}" --manifest-out "$out/manifest-url"
}

gate() {
  local url=${1:-} code=0
  if [[ -z $url ]]; then url=$(<"$out/manifest-url"); fi
  rm -f "$out"/{junit.xml,gate.json,summary.md,comment.md,errors.txt}
  potstill gate --manifest "$url" --wait "${REGRESSION_WAIT_MINUTES:-30}" --junit "$out/junit.xml" \
    --json "$out/gate.json" --summary "$out/summary.md" 2>"$out/errors.txt" || code=$?
  cat "$out/errors.txt" >&2
  if [[ ! -s $out/summary.md ]]; then echo '## Potstill gate: no verdict' >"$out/summary.md"; fi
  if [[ -s $out/errors.txt ]]; then
    echo >>"$out/summary.md"
    sed 's/^/    /' "$out/errors.txt" >>"$out/summary.md"
  fi
  if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then cat "$out/summary.md" >>"$GITHUB_STEP_SUMMARY"; fi
  comment "$url" "$code" >"$out/comment.md"
  return "$code"
}

# The summary behind a mark that stays the same for all candidates of a template, by which a comment is found again.
comment() {
  local url=$1 code=$2 name
  name=${url##*/experiments/}
  name=${name%%/*}
  printf '<!-- potstill-gate %s -->\n' "${name%-*}"
  cat "$out/summary.md"
  printf '\nExit code %s. Manifest: %s\n' "$code" "$url"
}

mkdir -p "$out"
case ${1:-} in
  submit | gate) "$@" ;;
  *)
    sed -n '2,/^set/{s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
    ;;
esac
