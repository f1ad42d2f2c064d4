// For every file NAME.in of a folder: the same tensors and metadata in NAME.out, or the reason of the refusal in NAME.refused.
#include "../../examples/attend/mapped_file.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>

int main(int, char** argv) {
  try {
    for (const auto& file : std::filesystem::directory_iterator(argv[1])) {
      std::filesystem::path path = file.path();
      if (path.extension() != ".in") continue;
      try {
        const safetensors::Input in(path);
        safetensors::Output out(path.replace_extension(".out"), in.header().tensors, in.header().metadata);
        for (const safetensors::Entry& tensor : in.header().tensors) {
          std::ranges::copy(in.bytes(tensor), out.bytes(tensor.name).begin());
        }
        out.finish();
      } catch (const safetensors::refusal& reason) {
        std::ofstream(path.replace_extension(".refused")) << reason.what();
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "safetensors_echo: %s\n", error.what());
    return 1;
  }
}
