/// \file
/// A mask that is put together while the program runs: any number of interval masks, joined by &.
#pragma once

#include <rondo/error.hpp>
#include <rondo/mask/algebra.hpp>
#include <rondo/mask/chunked.hpp>
#include <rondo/mask/document.hpp>
#include <rondo/mask/padding.hpp>
#include <rondo/mask/prefix.hpp>

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// One type for every choice, so that what a user asks for at run time needs one instantiation of a kernel:
///
///     rondo::intervals mask;              // everything
///     if (local) mask &= rondo::window{.left = 1024};
///     if (packed) mask &= documents.mask();
///
/// Each query sees the intersection of the parts' intervals. Causal masks and windows become one part, as do prefixes.
class intervals {
 public:
  static constexpr int code = 9;
  static constexpr bool same_for_all_heads = true;
  /// Parts that a mask can have.
  static constexpr int most_parts = 6;

  intervals() = default;
  template <class M>
    requires requires(intervals& mask, const M& part) { mask &= part; }
  intervals(const M& part) {  // NOLINT: what is one of its parts is an intervals
    *this &= part;
  }

  intervals& operator&=(const full&) { return *this; }
  intervals& operator&=(const causal&) { return *this &= window{.right = 0}; }
  intervals& operator&=(const window& part) {
    Part* const held = find(Kind::window);
    if (held == nullptr) {
      add(Kind::window).of.window_part = part;
    } else {
      held->of.window_part = held->of.window_part & part;
    }
    return *this;
  }
  intervals& operator&=(const prefix& part) {
    Part* const held = find(Kind::prefix);
    if (held == nullptr) {
      add(Kind::prefix).of.prefix_part = part;
    } else {
      held->of.prefix_part.length = std::min(held->of.prefix_part.length, part.length);
    }
    return *this;
  }
  intervals& operator&=(const chunked& part) {
    add(Kind::chunked).of.chunked_part = part;
    return *this;
  }
  intervals& operator&=(const document& part) {
    add(Kind::document).of.document_part = part;
    return *this;
  }
  intervals& operator&=(const padding& part) {
    add(Kind::padding).of.padding_part = part;
    return *this;
  }

  void check(int batch, std::int64_t queries, std::int64_t keys) const {
    for_each([&](const auto& part) { part.check(batch, queries, keys); });
  }
  std::int64_t fingerprint() const {
    std::int64_t number = 0;
    for_each([&](const auto& part) {
      number = detail::mixed(number, std::remove_cvref_t<decltype(part)>::code, part.fingerprint());
    });
    return number;
  }

  KOKKOS_FUNCTION Interval keys(int batch, int head, std::int64_t query) const {
    Interval all = full{}.keys(batch, head, query);
    for_each([&](const auto& part) {
      const Interval one = part.keys(batch, head, query);
      all = {all.lo > one.lo ? all.lo : one.lo, all.hi < one.hi ? all.hi : one.hi};
    });
    return all;
  }
  KOKKOS_FUNCTION Coverage coverage(int batch, int head, const Run& queries, const Run& keys) const {
    Coverage all = full{}.coverage(batch, head, queries, keys);
    for_each([&](const auto& part) {
      if (all == Coverage::none) return;
      const Coverage one = part.coverage(batch, head, queries, keys);
      all = all == Coverage::all || one == Coverage::none ? one : Coverage::some;
    });
    return all;
  }
  std::int64_t work(int batch, int head, const Run& queries, const Run& keys) const {
    return detail::count_allowed(*this, batch, head, queries, keys);
  }

 private:
  enum class Kind { window, prefix, chunked, document, padding };
  union AnyPart {
    window window_part;
    prefix prefix_part;
    chunked chunked_part;
    document document_part;
    padding padding_part;
    KOKKOS_FUNCTION AnyPart() : window_part{} {}
  };
  struct Part {
    Kind kind = Kind::window;
    AnyPart of;
  };

  Part& add(Kind kind) {
    if (count_ == most_parts) {
      throw argument_error(detail::message("intervals: ", most_parts + 1, " parts, there is room for ", most_parts));
    }
    Part& part = parts_[count_++];
    part.kind = kind;
    return part;
  }
  Part* find(Kind kind) {
    for (int i = 0; i < count_; ++i) {
      if (parts_[i].kind == kind) return &parts_[i];
    }
    return nullptr;
  }

  template <class F>
  KOKKOS_FUNCTION void for_each(const F& f) const {
    for (int i = 0; i < count_; ++i) {
      const AnyPart& of = parts_[i].of;
      switch (parts_[i].kind) {
        case Kind::window:
          f(of.window_part);
          break;
        case Kind::prefix:
          f(of.prefix_part);
          break;
        case Kind::chunked:
          f(of.chunked_part);
          break;
        case Kind::document:
          f(of.document_part);
          break;
        case Kind::padding:
          f(of.padding_part);
          break;
      }
    }
  }

  Part parts_[most_parts];
  int count_ = 0;
};

static_assert(Mask<intervals> && IntervalMask<intervals>);

}  // namespace rondo
