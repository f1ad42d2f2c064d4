/// \file
/// Drawing what a JSON file says: Python and matplotlib do it.
#pragma once

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

// Made by CMake: the command before the arguments of plot.py, words separated by semicolons.
#if __has_include("plot_command.hpp")
#include "plot_command.hpp"
#endif
#ifndef PLAN_PLOT_COMMAND
#define PLAN_PLOT_COMMAND "python3;plot.py"
#endif

namespace planner {

/// \throws std::runtime_error when there is no picture afterwards
inline void draw(const std::filesystem::path& data, const std::filesystem::path& picture) {
  std::vector<std::string> words;
  const std::string command = PLAN_PLOT_COMMAND;
  for (std::size_t begin = 0; begin <= command.size();) {
    const std::size_t end = std::min(command.find(';', begin), command.size());
    words.push_back(command.substr(begin, end - begin));
    begin = end + 1;
  }
  words.push_back(data.string());
  words.push_back(picture.string());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::error_code ignored;
  std::filesystem::remove(picture, ignored);
  pid_t child = 0;
  int status = 0;
  if (posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0) {
    throw std::runtime_error("--plot: " + words[0] + " cannot be started");
  }
  waitpid(child, &status, 0);
  if (status != 0 || !std::filesystem::exists(picture)) {
    throw std::runtime_error("--plot: " + picture.string() + " was not drawn: it needs Python with matplotlib");
  }
}

}  // namespace planner
