#!/usr/bin/env bash
# Builds the native pack op with the Bazel that Debian ships, without network, and analyses every
# other target.
#
#     apt-get install --no-install-recommends bazel-bootstrap bazel-platforms bazel-skylib \
#         bazel-rules-java bazel-rules-proto
#     custom_ops/bazel_debian.sh
#
# Bazel 4.2.3 would fetch its rules from the network. Here they come from Debian's packages and,
# where Debian has none, from a few lines that hand on the rules that are built into Bazel.
set -euo pipefail
cd "$(dirname "$0")/.."
rules=$PWD/build/bazel_rules
rm -rf "$rules"

# rules NAME FILE RULE...: a repository whose FILE hands on built-in rules.
rules() {
    local folder=$rules/$1 file=$2
    shift 2
    mkdir -p "$folder/$(dirname "$file")"
    touch "$folder/WORKSPACE" "$folder/$(dirname "$file")/BUILD"
    for rule in "$@"; do echo "$rule = native.$rule"; done >"$folder/$file"
}
rules rules_cc cc/defs.bzl cc_binary cc_import cc_library cc_test cc_toolchain cc_toolchain_suite
rules rules_python python/defs.bzl py_binary py_library py_test
rules remote_coverage_tools none.bzl
echo 'filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])' \
    >"$rules/remote_coverage_tools/BUILD"

options=(
    --override_repository=platforms=/usr/share/bazel/tools/platforms
    --override_repository=bazel_skylib=/usr/share/bazel/tools/skylib
    --override_repository=rules_java=/usr/share/bazel/rules/java
    --override_repository=rules_proto=/usr/share/bazel/rules/proto
    --override_repository=rules_cc="$rules/rules_cc"
    --override_repository=rules_python="$rules/rules_python"
    --override_repository=remote_coverage_tools="$rules/remote_coverage_tools"
    --noshow_progress
)
bazel build "${options[@]}" -c opt //custom_ops:libtfdet_pack.so
bazel build "${options[@]}" -c opt --nobuild //...
echo "built bazel-bin/custom_ops/libtfdet_pack.so; every other target can be analysed"
