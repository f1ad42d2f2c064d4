/// A stand-in for NCCL: ranks are threads of one process, messages are copied in host memory by the streams' threads. It
/// has NCCL's rules and no buffers: a group ends when all its messages have met their other halves, whoever waits in the
/// wrong order waits for ever, and a group is on its stream only when the communicator is no longer in progress.
#include "control.hpp"
#include "../../stand_in/streams.hpp"

#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

struct Clique;
struct Group;

/// Half a message.
struct Half {
  bool sends;
  int peer;
  std::byte* data;
  std::size_t bytes;
  enum class State { idle, posted, copying, done } state = State::idle;
};

/// A communicator of one rank. `clique->mutex` guards everything that changes.
struct Member {
  std::shared_ptr<Clique> clique;
  int rank = 0;
  bool blocking = true;
  int launching = 0;  ///< groups that are not on their stream yet
  std::set<int> connected;
  bool finalizing = false;
  bool aborted = false;
  const Group* at = nullptr;  ///< where its stream stands
  ncclResult_t error = ncclSuccess;
};

/// The ranks that share a unique id.
struct Clique {
  std::mutex mutex;
  std::condition_variable changed;
  int size = 0;
  int joined = 0;
  int finalized = 0;
  std::vector<Member*> members;
  std::map<std::pair<int, int>, std::vector<Half*>> sends, receives;  ///< by (from, to), in order
};

/// A group of messages on one stream.
struct Group {
  std::shared_ptr<Member> member;
  cudaStream_t stream = nullptr;
  std::vector<Half> halves;

  bool has(Half::State state) const {
    return std::any_of(halves.begin(), halves.end(), [&](const Half& half) { return half.state == state; });
  }
};

std::mutex registry_mutex;
std::map<ncclComm_t, std::shared_ptr<Member>> registry;
std::map<std::string, std::weak_ptr<Clique>> cliques;
std::vector<std::string> misuses;
stand_in::Delays delays;
std::atomic<std::int64_t> last_id{0};

thread_local int depth = 0;
thread_local std::vector<Group> open_groups;

template <class... Parts>
void misuse(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  const std::lock_guard lock(registry_mutex);
  misuses.push_back(text.str());
}

std::shared_ptr<Member> find(ncclComm_t comm, const char* function) {
  {
    const std::lock_guard lock(registry_mutex);
    const auto found = registry.find(comm);
    if (found != registry.end()) return found->second;
  }
  misuse(function, " on a communicator that has ended");
  return nullptr;
}

/// Between calls everything but asking and aborting needs a communicator at rest.
bool is_at_rest(Member& member, const char* function) {
  const std::lock_guard lock(member.clique->mutex);
  if (member.launching == 0 && member.clique->joined == member.clique->size && !member.finalizing) return true;
  misuse(function, " on rank ", member.rank, " while a call on its communicator is in progress");
  return false;
}

/// Matches what can be. Under the lock, which is given up for copies.
void match(Clique& clique, std::unique_lock<std::mutex>& lock) {
  for (auto& [pair, sends] : clique.sends) {
    auto& receives = clique.receives[pair];
    while (!sends.empty() && !receives.empty()) {
      Half* const from = sends.front();
      Half* const to = receives.front();
      sends.erase(sends.begin());
      receives.erase(receives.begin());
      from->state = to->state = Half::State::copying;
      if (from->bytes != to->bytes) {
        misuse("rank ", pair.first, " sends ", from->bytes, " bytes where rank ", pair.second, " expects ", to->bytes);
      }
      lock.unlock();
      if (delays.copy.count() > 0) std::this_thread::sleep_for(delays.copy);
      std::memcpy(to->data, from->data, std::min(from->bytes, to->bytes));
      lock.lock();
      from->state = to->state = Half::State::done;
      clique.changed.notify_all();
    }
  }
}

/// Do all ranks stand at groups that miss something? Then none will ever post what another waits for.
void look_for_deadlock(Clique& clique) {
  const auto waits = [](const Member* m) {
    return m->error == ncclSuccess && m->at != nullptr && m->at->has(Half::State::posted) &&
           !m->at->has(Half::State::copying);
  };
  const auto& members = clique.members;
  if (static_cast<int>(members.size()) != clique.size || !std::all_of(members.begin(), members.end(), waits)) return;
  misuse("the groups of all ", clique.size, " ranks wait for messages of later groups");
  for (Member* member : clique.members) member->error = ncclInternalError;
}

/// A stream's thread at a group.
void run(const std::shared_ptr<Group>& group) {
  Member& member = *group->member;
  Clique& clique = *member.clique;
  std::unique_lock lock(clique.mutex);
  const auto queue_of = [&](const Half& half) -> std::vector<Half*>& {
    return half.sends ? clique.sends[{member.rank, half.peer}] : clique.receives[{half.peer, member.rank}];
  };
  member.at = group.get();
  if (!member.aborted) {
    for (Half& half : group->halves) {
      queue_of(half).push_back(&half);
      half.state = Half::State::posted;
    }
    if (member.error == ncclSuccess) match(clique, lock);
  }
  while (group->has(Half::State::posted) && !member.aborted) {
    look_for_deadlock(clique);
    clique.changed.wait(lock);
  }
  // After an abort: what nobody copies is withdrawn. A copy that has begun uses the memory until it ends.
  for (Half& half : group->halves) {
    if (half.state == Half::State::posted) std::erase(queue_of(half), &half);
  }
  clique.changed.wait(lock, [&] { return !group->has(Half::State::copying); });
  member.at = nullptr;
}

/// Puts a group on its stream, at once or, where the host must not be held up, some time later.
ncclResult_t launch(Group&& given) {
  const auto group = std::make_shared<Group>(std::move(given));
  Member& member = *group->member;
  bool is_new = false;
  {
    const std::lock_guard lock(member.clique->mutex);
    for (const Half& half : group->halves) is_new = member.connected.insert(half.peer).second || is_new;
    if (!member.blocking && is_new) ++member.launching;
  }
  const auto put = [group] { group->stream->push([group] { run(group); }); };
  if (member.blocking || !is_new) {
    put();
    return ncclSuccess;
  }
  std::thread([group, put] {
    std::this_thread::sleep_for(delays.launch);
    {
      const std::lock_guard lock(group->member->clique->mutex);
      if (!group->member->aborted) put();
      --group->member->launching;
    }
    group->member->clique->changed.notify_all();
  }).detach();
  return ncclInProgress;
}

ncclResult_t add(bool sends, void* data, std::size_t bytes, int peer, ncclComm_t comm, cudaStream_t stream) {
  const char* function = sends ? "ncclSend" : "ncclRecv";
  const auto member = find(comm, function);
  if (!member || !is_at_rest(*member, function)) return ncclInvalidUsage;
  if (peer < 0 || peer >= member->clique->size) return ncclInvalidArgument;
  auto group = std::find_if(open_groups.begin(), open_groups.end(),
                            [&](const Group& g) { return g.member == member && g.stream == stream; });
  if (group == open_groups.end()) {
    open_groups.push_back({member, stream, {}});
    group = open_groups.end() - 1;
  }
  group->halves.push_back({sends, peer, static_cast<std::byte*>(data), bytes});
  if (depth > 0) return ncclSuccess;
  ++depth;
  return ncclGroupEnd();
}

void end(ncclComm_t comm) {
  const std::lock_guard lock(registry_mutex);
  const auto found = registry.find(comm);
  auto& members = found->second->clique->members;
  const std::lock_guard clique_lock(found->second->clique->mutex);
  std::erase(members, found->second.get());
  registry.erase(found);
}

}  // namespace

namespace stand_in {

void set_delays(const Delays& given) { delays = given; }

void break_down(ncclComm_t comm, ncclResult_t error) {
  const auto member = find(comm, "break_down");
  const std::lock_guard lock(member->clique->mutex);
  member->error = error;
}

std::vector<std::string> take_misuses() {
  const std::lock_guard lock(registry_mutex);
  return std::exchange(misuses, {});
}

int open_communicators() {
  const std::lock_guard lock(registry_mutex);
  return static_cast<int>(registry.size());
}

}  // namespace stand_in

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = {};
  const std::string text = "stand-in " + std::to_string(++last_id);
  std::memcpy(id->internal, text.c_str(), text.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (rank < 0 || rank >= nranks) return ncclInvalidArgument;
  auto member = std::make_shared<Member>();
  member->rank = rank;
  member->blocking = config == nullptr || config->blocking != 0;
  {
    const std::lock_guard lock(registry_mutex);
    auto& known = cliques[id.internal];
    member->clique = known.lock();
    if (!member->clique) known = member->clique = std::make_shared<Clique>();
    *comm = reinterpret_cast<ncclComm_t>(member.get());
    registry[*comm] = member;
  }
  Clique& clique = *member->clique;
  std::unique_lock lock(clique.mutex);
  clique.size = nranks;
  ++clique.joined;
  clique.members.push_back(member.get());
  clique.changed.notify_all();
  if (!member->blocking) return ncclInProgress;
  clique.changed.wait(lock, [&] { return clique.joined == nranks; });
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const auto member = find(comm, "ncclCommGetAsyncError");
  if (!member) return ncclInvalidArgument;
  const Clique& clique = *member->clique;
  const std::lock_guard lock(member->clique->mutex);
  const bool in_progress =
      member->launching > 0 || clique.joined < clique.size || (member->finalizing && clique.finalized < clique.size);
  *error = member->error != ncclSuccess ? member->error : in_progress ? ncclInProgress : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const auto member = find(comm, "ncclCommFinalize");
  if (!member || !is_at_rest(*member, "ncclCommFinalize")) return ncclInvalidUsage;
  Clique& clique = *member->clique;
  std::unique_lock lock(clique.mutex);
  member->finalizing = true;
  ++clique.finalized;
  clique.changed.notify_all();
  if (!member->blocking) return ncclInProgress;
  clique.changed.wait(lock, [&] { return clique.finalized == clique.size; });
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!find(comm, "ncclCommDestroy")) return ncclInvalidArgument;
  end(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const auto member = find(comm, "ncclCommAbort");
  if (!member) return ncclInvalidArgument;
  {
    const std::lock_guard lock(member->clique->mutex);
    member->aborted = true;
    member->clique->changed.notify_all();
  }
  end(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  const auto member = find(comm, "ncclCommCount");
  if (member) *count = member->clique->size;
  return member ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  const auto member = find(comm, "ncclCommUserRank");
  if (member) *rank = member->rank;
  return member ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
  return add(true, const_cast<void*>(data), count, peer, comm, stream);
}

ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
  return add(false, data, count, peer, comm, stream);
}

ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (depth == 0) return ncclInvalidUsage;
  if (--depth > 0) return ncclSuccess;
  ncclResult_t result = ncclSuccess;
  for (Group& group : std::exchange(open_groups, {})) {
    if (launch(std::move(group)) == ncclInProgress) result = ncclInProgress;
  }
  return result;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t) { return "the stand-in's last words"; }

}  // extern "C"
