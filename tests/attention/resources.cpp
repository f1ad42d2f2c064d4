/// \file
/// What a RingAttention uses: memory by formula, the same at every number of ranks; nothing allocated once warm; bytes
/// sent by formula, with no useless last hop.
#include <support/generators.hpp>
#include <support/ring_case.hpp>

#include <Kokkos_Core.hpp>
#include <Kokkos_Profiling_ProfileSection.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <vector>

namespace {

/// Allocations of all threads while `watching`; Kokkos's are counted apart, with the labels of the first few.
struct Allocations {
  std::atomic<bool> watching = false;
  std::atomic<std::int64_t> by_new = 0;
  std::atomic<std::int64_t> new_bytes = 0;
  std::atomic<std::int64_t> by_kokkos = 0;
  std::atomic<std::int64_t> kokkos_bytes = 0;
  char last_label[128] = {};

  void start() {
    by_new = new_bytes = by_kokkos = kokkos_bytes = 0;
    watching = true;
  }
  void stop() { watching = false; }
  void count_new(std::size_t bytes) {
    if (!watching.load(std::memory_order_relaxed)) return;
    ++by_new;
    new_bytes += static_cast<std::int64_t>(bytes);
  }
};
Allocations allocations;

void* counted_new(std::size_t size) {
  allocations.count_new(size);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

void* counted_new(std::size_t size, std::align_val_t alignment) {
  allocations.count_new(size);
  const auto at = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(at, (size + at - 1) / at * at)) return memory;
  throw std::bad_alloc();
}

void count_kokkos(Kokkos::Profiling::SpaceHandle, const char* label, const void*, std::uint64_t size) {
  if (!allocations.watching) return;
  ++allocations.by_kokkos;
  allocations.kokkos_bytes += static_cast<std::int64_t>(size);
  std::strncpy(allocations.last_label, label, sizeof(allocations.last_label) - 1);
}

}  // namespace

void* operator new(std::size_t size) { return counted_new(size); }
void* operator new[](std::size_t size) { return counted_new(size); }
void* operator new(std::size_t size, std::align_val_t alignment) { return counted_new(size, alignment); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return counted_new(size, alignment); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace rondo::test {
namespace {

constexpr Extents one_shard{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 24};
constexpr Extents narrow_values{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 24, .value_dim = 5};

std::size_t in_lines(std::size_t bytes) { return (bytes + 127) / 128 * 128; }

/// The formula for the workspace: two places for packed pieces, four for gradients of pieces, a number per query row,
/// and, where the type is narrower than its accumulator, an accumulator per query. Forward and backward share it.
/// \param first_part  tokens of a piece's first part where shards have two runs, or 0
template <class Kernel>
std::size_t workspace_formula(const Kernel& kernel, const Extents& e, std::int64_t tokens, std::int64_t chunk,
                              std::int64_t first_part) {
  using A = typename Kernel::accumulate_type;
  constexpr bool narrow = !std::is_same_v<typename Kernel::value_type, A>;
  const auto elements = [&](std::int64_t n, int heads, int dim) {
    return static_cast<std::size_t>(e.batch * n * heads * dim);
  };
  const std::size_t rows = in_lines(sizeof(A) * elements(tokens, e.heads, 1));
  const std::size_t out = narrow ? in_lines(sizeof(A) * elements(tokens, e.heads, e.value_width())) : 0;
  const std::size_t queries = narrow ? in_lines(sizeof(A) * elements(tokens, e.heads, e.head_dim)) : 0;
  const std::size_t gradients = 4 * in_lines(sizeof(A) * elements(chunk, e.kv_heads, e.head_dim + e.value_width()));
  const auto wire = [&](Pass pass, std::int64_t count) { return kernel.wire_bytes(pass, shape_of(e), count); };
  const auto pieces = [&](Pass pass) {
    const std::size_t parts = in_lines(wire(pass, first_part)) + wire(pass, chunk - first_part);
    return 2 * in_lines(first_part == 0 ? wire(pass, chunk) : std::max(wire(pass, chunk), parts));
  };
  return std::max(pieces(Pass::forward) + rows + out, pieces(Pass::backward) + rows + queries + gradients);
}

// A sanitizer's operator new serves Kokkos' library, and this program's sees nothing of it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

template <class Kernel>
void check_workspace(const Extents& one_shard, Layout layout = Layout::contiguous) {
  for (const std::int64_t chunk : {5, 24}) {
    const std::int64_t first_part = layout == Layout::zigzag ? (chunk + 1) / 2 : 0;
    const std::size_t formula = workspace_formula(Kernel{}, one_shard, one_shard.tokens, chunk, first_part);
    for (const int ranks : {1, 2, 4, 8, 16}) {
      std::vector<WorkspaceBytes> bytes(static_cast<std::size_t>(ranks));
      std::int64_t allocated = 0, taken = 0;
      in_process_group<>(ranks).run([&](auto& comm) {
        comm.barrier();
        if (comm.rank() == 0) allocations.start();
        comm.barrier();
        const RingAttention attention{comm, shape_of(one_shard), sharding_of(layout, one_shard.tokens * ranks),
                                      Kernel{}, Options{.chunk = chunk}};
        bytes[static_cast<std::size_t>(comm.rank())] = attention.workspace();
        comm.barrier();
        if (comm.rank() == 0) {
          allocations.stop();
          allocated = allocations.kokkos_bytes;
          taken = allocations.new_bytes;
        }
        comm.barrier();
      });
      INFO(ranks << " ranks, chunk " << chunk << ", last allocated: " << allocations.last_label);
      for (int rank = 0; rank < ranks; ++rank) {
        const WorkspaceBytes& mine = bytes[static_cast<std::size_t>(rank)];
        CHECK(mine.total() == formula);
        const any_sharding sharding = sharding_of(layout, one_shard.tokens * ranks);
        CHECK(mine == workspace_bytes(Kernel{}, shape_of(one_shard), sharding, ranks, rank, chunk));
      }
      CHECK(allocated == static_cast<std::int64_t>(formula) * ranks);
      // What the process took: the workspaces, Kokkos' word on each, and tables of runs.
      CHECK((taken >= allocated || sanitized));
      CHECK(taken <= allocated + ranks * (2048 + (first_part == 0 ? 64 : 128) * ranks));
    }
  }
}

/// Forward and backward, warm, while allocations are counted on all ranks.
template <class Kernel>
void check_nothing_allocated(Layout layout, std::int64_t chunk) {
  constexpr int ranks = 3;
  const Extents e{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 100};
  in_process_group<>(ranks).run([&](auto& comm) {
    RingAttention attention{comm, shape_of(e), sharding_of(layout, e.tokens), Kernel{}, Options{.chunk = chunk}};
    const Shard<Kernel> mine(e, attention.tokens());
    const typename Kernel::value_type one(1.0f);
    fill(mine.q, one);
    fill(mine.k, one);
    fill(mine.v, one);
    fill(mine.grad_out, one);
    const auto step = [&] {
      attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, Problem{causal{}});
      attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k,
                         mine.grad_v, Problem{causal{}});
    };
    for (int call = 0; call < 3; ++call) step();
    comm.barrier();
    if (comm.rank() == 0) allocations.start();
    comm.barrier();
    for (int call = 0; call < 4; ++call) step();
    comm.barrier();
    if (comm.rank() == 0) allocations.stop();
    comm.barrier();
  });
}

/// Bytes that rank `rank` sends forward: every piece but those of the next rank, which have arrived; and backward: those
/// again, and the gradients (in accumulate type) of every piece but its own.
template <class Kernel>
std::array<std::int64_t, 2> bytes_formula(const Extents& e, const any_sharding& sharding, int rank, int ranks,
                                          std::int64_t chunk) {
  std::array<std::int64_t, 2> bytes{};
  const std::int64_t token = std::int64_t{2} * e.batch * e.kv_heads * e.head_dim *
                             static_cast<std::int64_t>(sizeof(typename Kernel::accumulate_type));
  const ShardTable table(sharding, ranks);
  const auto wire = [&](Pass pass, const Piece& piece) {
    std::size_t all = 0;  // a second part begins in a line of its own
    for (const Part& part : piece.parts()) {
      all = in_lines(all) + Kernel{}.wire_bytes(pass, shape_of(e), part.tokens.count);
    }
    return static_cast<std::int64_t>(all);
  };
  for (int owner = 0; owner < ranks; ++owner) {
    for (std::int64_t index = 0; index < table.pieces(owner, chunk); ++index) {
      const Piece piece = table.piece(owner, index, chunk);
      if (owner != (rank + 1) % ranks) {
        bytes[0] += wire(Pass::forward, piece);
        bytes[1] += wire(Pass::backward, piece);
      }
      if (owner != rank) bytes[1] += token * piece.tokens();
    }
  }
  return bytes;
}

template <class Kernel>
void check_traffic() {
  for (const int ranks : {1, 2, 3, 5}) {
    for (const Layout layout : all_layouts) {
      for (const std::int64_t chunk : {7, 4096}) {
        for (const std::int64_t total : {3, 101}) {
          const Extents e{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .tokens = total};
          const any_sharding sharding = sharding_of(layout, total);
          std::vector<std::array<std::int64_t, 2>> sent(static_cast<std::size_t>(ranks));
          in_process_group<>(ranks).run([&](auto& comm) {
            RingAttention attention{comm, shape_of(e), sharding, Kernel{}, Options{.chunk = chunk}};
            const Shard<Kernel> mine(e, attention.tokens());
            auto& bytes = sent[static_cast<std::size_t>(comm.rank())];
            attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse);
            bytes[0] = attention.statistics().bytes_sent;
            attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k,
                               mine.grad_v);
            bytes[1] = attention.statistics().bytes_sent - bytes[0];
          });
          INFO(ranks << " ranks, " << name(layout) << ", chunk " << chunk << ", " << total << " tokens");
          for (int rank = 0; rank < ranks; ++rank) {
            CHECK(sent[static_cast<std::size_t>(rank)] == bytes_formula<Kernel>(e, sharding, rank, ranks, chunk));
          }
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("the workspace is the formula's to the byte, whatever the number of ranks, and all that is allocated") {
  Kokkos::Tools::Experimental::set_allocate_data_callback(count_kokkos);
  check_workspace<default_kernel<float>>(one_shard);
  check_workspace<default_kernel<float>>(one_shard, Layout::zigzag);
  check_workspace<default_kernel<bfloat16>>(one_shard);
  check_workspace<default_kernel<bfloat16>>(narrow_values);
}

TEST_CASE("a workspace is known by purpose before it is made") {
  // Per purpose, in whole lines: 2 pieces of 24 tokens, 2 kv heads, 16 wide, k and v; l or delta for 4 heads and 24 tokens.
  const WorkspaceBytes bytes =
      workspace_bytes(portable_kernel<bfloat16>{}, shape_of(one_shard), contiguous{96}, 4, 1, 24);
  const std::size_t piece = 2 * 24 * 2 * 16 * 2 * 2, rows = 2 * 4 * 24 * 4;
  CHECK(bytes.forward == PassBytes{2 * piece, rows + rows * 16, 0});
  CHECK(bytes.backward == PassBytes{2 * piece, rows + rows * 16, 4 * 2 * piece});
  CHECK(bytes.total() == bytes.backward.total());
}

TEST_CASE("a workspace larger than its budget is refused on every rank, with the numbers, before it is allocated") {
  Kokkos::Tools::Experimental::set_allocate_data_callback(count_kokkos);
  using Kernel = default_kernel<float>;
  constexpr int ranks = 3;
  const contiguous sharding{one_shard.tokens * ranks};
  const std::size_t needed = workspace_bytes(Kernel{}, shape_of(one_shard), sharding, ranks, 1, 8).total();
  // Rank 1 has too little; then all have just enough.
  for (const std::size_t budget : {needed - 1, needed}) {
    std::vector<std::string> refusals(ranks);
    in_process_group<>(ranks, {.deadline = Deadline{30}}).run([&](auto& comm) {
      comm.barrier();
      if (comm.rank() == 0) allocations.start();
      comm.barrier();
      try {
        const RingAttention attention{comm, shape_of(one_shard), sharding, Kernel{},
                                      Options{.chunk = 8, .budget = comm.rank() == 1 ? budget : 0}};
      } catch (const error& refusal) {
        refusals[static_cast<std::size_t>(comm.rank())] = refusal.what();
      }
    });
    allocations.stop();
    if (budget == needed) {
      for (const std::string& refusal : refusals) CHECK(refusal == "");
      CHECK(allocations.kokkos_bytes == static_cast<std::int64_t>(needed) * ranks);
      continue;
    }
    CHECK(allocations.kokkos_bytes == 0);
    for (const std::string& refusal : refusals) CHECK(refusal != "");
    INFO(refusals[1]);
    CHECK(refusals[1].find("the workspace of rank 1 takes " + std::to_string(needed) + " bytes (") !=
          std::string::npos);
    CHECK(refusals[1].find("the budget is " + std::to_string(budget)) != std::string::npos);
  }
}

TEST_CASE("a warm forward and backward allocates nothing") {
  Kokkos::Tools::Experimental::set_allocate_data_callback(count_kokkos);
  for (const Layout layout : all_layouts) {
    check_nothing_allocated<default_kernel<bfloat16>>(layout, 7);
    INFO(name(layout) << ", last allocated by Kokkos: " << allocations.last_label);
    CHECK(allocations.by_kokkos == 0);
    CHECK(allocations.by_new == 0);
  }
}

TEST_CASE("every rank sends the bytes of N - 1 hops and not one more") {
  check_traffic<default_kernel<float>>();
  check_traffic<default_kernel<bfloat16>>();
}

}  // namespace rondo::test
