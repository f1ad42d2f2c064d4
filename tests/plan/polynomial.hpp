/// \file
/// The value of a sum of products as the papers print it: "2bsh + 4bch", "2bns^2".
#pragma once

#include <cctype>
#include <map>
#include <stdexcept>
#include <string>

namespace rondo::test {

inline double value_of(const std::string& text, const std::map<char, double>& values) {
  double sum = 0, product = 1;
  bool any = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ') continue;
    if (c == '+') {
      sum += product;
      product = 1;
      continue;
    }
    double factor = 0;
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      factor = c - '0';
    } else if (values.count(c) != 0) {
      factor = values.at(c);
    } else {
      throw std::runtime_error("no value for " + std::string(1, c) + " in " + text);
    }
    if (i + 2 < text.size() && text[i + 1] == '^') {
      if (text[i + 2] != '2') throw std::runtime_error("a power that is no square in " + text);
      factor *= factor;
      i += 2;
    }
    product *= factor;
    any = true;
  }
  if (!any) throw std::runtime_error("nothing to evaluate in " + text);
  return sum + product;
}

}  // namespace rondo::test
