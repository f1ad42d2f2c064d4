/// \file
/// Another program, run by a test: its output is read while it runs, signals can be sent, and it never outlives the test.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace rondo::test {

/// How a program ended.
struct ProcessResult {
  int status = -1;     ///< exit status; -1: ended by a signal
  int signal = 0;      ///< that signal; 0: none
  std::string output;  ///< of standard output and standard error, as they came
};

/// Where a program writes: a pipe, or a terminal of so many columns.
struct Screen {
  int columns = 0;  ///< 0: a pipe
};

class Process {
 public:
  /// Starts command[0] in a directory.
  Process(const std::vector<std::string>& command, const std::filesystem::path& directory, Screen screen = {}) {
    const auto [reading, writing] = screen.columns > 0 ? open_terminal(screen.columns) : open_pipe();
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const std::string place = directory.string();
    child_ = fork();
    if (child_ == 0) {  // only calls that are safe in a forked thread
      if (chdir(place.c_str()) != 0 || dup2(writing, STDOUT_FILENO) < 0 || dup2(writing, STDERR_FILENO) < 0) _exit(126);
      execv(arguments[0], arguments.data());
      _exit(127);
    }
    close(writing);
    reading_ = reading;
    if (child_ < 0) throw std::runtime_error("no process could be started");
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
    close(reading_);
  }

  const std::string& output() const { return output_; }

  /// Reads until the output holds a text. \return false when the program ended without it
  bool wait_for(const std::string& text) {
    while (output_.find(text) == std::string::npos) {
      if (!read_more()) return false;
    }
    return true;
  }

  void send(int signal) { kill(child_, signal); }

  /// Reads to the end.
  ProcessResult finish() {
    while (read_more()) {
    }
    int status = 0;
    waitpid(child_, &status, 0);
    child_ = -1;
    ProcessResult result;
    result.output = output_;
    if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    return result;
  }

 private:
  struct Ends {
    int reading;
    int writing;
  };
  static Ends open_pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe could be opened");
    return {ends[0], ends[1]};
  }
  static Ends open_terminal(int columns) {
    const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
      throw std::runtime_error("no terminal could be opened");
    const int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    winsize size{};
    size.ws_row = 24;
    size.ws_col = static_cast<unsigned short>(columns);
    if (terminal < 0 || ioctl(terminal, TIOCSWINSZ, &size) != 0)
      throw std::runtime_error("no terminal could be opened");
    return {master, terminal};
  }

  /// \return false at the end of the output. \throws std::runtime_error  at the deadline
  bool read_more() {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
    pollfd waiting{reading_, POLLIN, 0};
    const int ready = poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (ready < 0 && errno == EINTR) return true;
    if (ready == 0) throw std::runtime_error("the program neither wrote nor ended in time; it has written: " + output_);
    char text[4096];
    const ssize_t count = read(reading_, text, sizeof text);  // a terminal whose other end is closed gives an error
    if (count > 0) output_.append(text, static_cast<std::size_t>(count));
    return count > 0;
  }

  pid_t child_ = -1;
  int reading_ = -1;
  std::string output_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::now() + std::chrono::seconds(120);
};

/// Runs a program to its end.
inline ProcessResult run_process(const std::vector<std::string>& command, const std::filesystem::path& directory,
                                 Screen screen = {}) {
  return Process(command, directory, screen).finish();
}

}  // namespace rondo::test
