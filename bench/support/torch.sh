# Sourced by bench/*/run, with $python and $root set: packages into the environment of $python, and PyTorch.

install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# PyTorch for Linux on x86-64 comes from the index with several gigabytes of CUDA libraries that a processor never calls:
# peers/torch_stubs.py stands in for them. If that does not work, or with RONDO_COMPARE_TORCH=full, the whole is installed.
install_torch() {
  local peers="$root/bench/compare/peers"
  if [[ "$(uname -sm)" == "Linux x86_64" && "${RONDO_COMPARE_TORCH:-lean}" != full ]]; then
    install --no-deps -r "$peers/torch-lean.txt" 2>/dev/null &&
      "$python" "$peers/torch_stubs.py" && "$python" -c "import torch" && return
    echo "PyTorch does not start without its CUDA libraries: installing them too"
  fi
  install "$(grep '^torch==' "$peers/torch-lean.txt")"
}
