# Asking a Debian archive for packages without being root and without touching the machine's own package state.
# Every suite gets a small area of its own (index, cache, settings) under <build tree>/dependencies/apt.

include_guard(GLOBAL)

# The archives this machine itself installs its release from, as "<URI> <component>..." lines, likeliest first.
# Both notations of apt's sources are read; what it fetches from elsewhere (other suites, security) is left out.
function(rondo_apt_archives release out)
  set(archives "")
  # The same release may be written by what it is at present instead of by its name.
  set(names ${release} stable oldstable testing unstable sid)
  string(JOIN "|" name_pattern ${names})
  file(GLOB files /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources)
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    string(REGEX REPLACE "\n#[^\n]*" "" text "\n${text}")
    if(file MATCHES "\\.sources$")
      string(REPLACE "\n\n" ";" stanzas "${text}")
      foreach(stanza IN LISTS stanzas)
        set(stanza "\n${stanza}\n")
        foreach(field IN ITEMS Types URIs Suites Components)
          string(REGEX MATCH "\n${field}:[ \t]*([^\n]*)" matched "${stanza}")
          separate_arguments(${field} UNIX_COMMAND "${CMAKE_MATCH_1}")
        endforeach()
        list(FILTER Suites INCLUDE REGEX "^(${name_pattern})$")
        if("deb" IN_LIST Types AND Suites AND "main" IN_LIST Components)
          foreach(uri IN LISTS URIs)
            string(JOIN " " archive ${uri} ${Components})
            list(APPEND archives "${archive}")
          endforeach()
        endif()
      endforeach()
    else()
      string(REPLACE "\n" ";" lines "${text}")
      foreach(line IN LISTS lines)
        if(line MATCHES "^deb[ \t]+(\\[[^]]*\\][ \t]+)?([^ \t]+)[ \t]+(${name_pattern})[ \t]+(.*main.*)$")
          list(APPEND archives "${CMAKE_MATCH_2} ${CMAKE_MATCH_4}")
        endif()
      endforeach()
    endif()
  endforeach()
  # A third party's archive can carry the same suite name: the distribution's own ends in its name.
  set(likely ${archives})
  list(FILTER likely INCLUDE REGEX "/(debian|ubuntu)/? ")
  list(PREPEND archives ${likely})
  list(REMOVE_DUPLICATES archives)
  set(${out} "${archives}" PARENT_SCOPE)
endfunction()

# How the machine reaches archives (proxies, certificates) is kept; everything else, such as what it does after an
# update, is not.
function(rondo_apt_settings area)
  execute_process(COMMAND apt-config dump OUTPUT_VARIABLE dump ERROR_QUIET)
  string(REGEX MATCHALL "\nAcquire::[^\n]*\"" kept "\n${dump}")
  list(FILTER kept EXCLUDE REGEX "Acquire::(IndexTargets|Languages|Retries)")
  list(TRANSFORM kept APPEND "\;")
  string(JOIN "" kept ${kept})
  file(WRITE "${area}/apt.conf"
    "Dir::Etc::Main \"/dev/null\";\nDir::Etc::Parts \"/dev/null\";\nDir::Etc::Preferences \"/dev/null\";\n"
    "Dir::Etc::PreferencesParts \"/dev/null\";\nDir::Etc::SourceParts \"/dev/null\";\n"
    "Dir::Etc::SourceList \"${area}/sources.list\";\nDir::State \"${area}\";\nDir::State::Status \"${area}/status\";\n"
    "Dir::State::Lists \"${area}/lists\";\nDir::Cache \"${area}/cache\";\nDir::Log \"${area}\";\n"
    "APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\n"
    "Acquire::http::Timeout \"20\";\nAcquire::https::Timeout \"20\";\n${kept}\n")
  file(WRITE "${area}/status" "")
  file(MAKE_DIRECTORY "${area}/lists/partial" "${area}/cache/archives/partial" "${area}/packages")
endfunction()

# Brings a suite's index here, once per configure. `out` is the area, or empty if no archive has that suite.
function(rondo_apt_suite root release suite out)
  set(area "${root}/apt/${suite}")
  get_property(state GLOBAL PROPERTY "RONDO_APT_${suite}")
  if(NOT state)
    set(state failed)
    rondo_apt_archives("${release}" archives)
    foreach(archive IN LISTS archives)
      message(STATUS "Rondo: reading the package index of ${suite}")
      rondo_apt_settings("${area}")
      string(REGEX REPLACE " (.*)" " ${suite} \\1" line "${archive}")
      set(keyring "/usr/share/keyrings/debian-archive-keyring.gpg")
      set(signed "")
      if(EXISTS "${keyring}" AND archive MATCHES "/debian/? ")
        set(signed "[signed-by=${keyring}] ")
      endif()
      file(WRITE "${area}/sources.list" "deb ${signed}${line}\n")
      rondo_apt("${area}" status text apt-get -qq update)
      if(status EQUAL 0)
        set(state ready)
        break()
      endif()
    endforeach()
    set_property(GLOBAL PROPERTY "RONDO_APT_${suite}" ${state})
  endif()
  if(state STREQUAL "ready")
    set(${out} "${area}" PARENT_SCOPE)
  else()
    set(${out} "" PARENT_SCOPE)
  endif()
endfunction()

# Runs one of apt's programs with the settings of an area.
function(rondo_apt area out_status out_text)
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -E env LC_ALL=C "APT_CONFIG=${area}/apt.conf" ${ARGN}
    WORKING_DIRECTORY "${area}/packages" TIMEOUT 300
    RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE error)
  # A suite that the archive does not have is only a warning to apt-get update.
  if(error MATCHES "(^|\n)(E|Err|W: Failed)")
    set(status 1)
  endif()
  set(${out_status} "${status}" PARENT_SCOPE)
  set(${out_text} "${text}" PARENT_SCOPE)
endfunction()

# The upstream part of a package's version in an area's suite; empty if it is not there.
function(rondo_apt_version area package out)
  rondo_apt("${area}" status text apt-cache show --no-all-versions "${package}")
  set(version "")
  if(text MATCHES "(^|\n)Version: ([0-9]+:)?([0-9.]*[0-9])")
    set(version "${CMAKE_MATCH_3}")
  endif()
  set(${out} "${version}" PARENT_SCOPE)
endfunction()

# Downloads a package and those of its dependencies that match `keep`, and unpacks them under `prefix`.
function(rondo_apt_unpack area package keep prefix out)
  set(${out} FALSE PARENT_SCOPE)
  rondo_apt("${area}" status text apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks
            --no-replaces --no-enhances "${package}")
  string(REGEX MATCHALL "\n[a-z0-9][^\n]*" packages "\n${text}")
  list(TRANSFORM packages STRIP)
  list(FILTER packages INCLUDE REGEX "${keep}")
  list(APPEND packages "${package}")
  list(REMOVE_DUPLICATES packages)
  rondo_apt("${area}" status text apt-get -qq download ${packages})
  file(GLOB archives "${area}/packages/*.deb")
  if(NOT status EQUAL 0 OR NOT archives)
    return()
  endif()
  file(MAKE_DIRECTORY "${prefix}")
  foreach(archive IN LISTS archives)
    execute_process(COMMAND dpkg-deb -x "${archive}" "${prefix}" RESULT_VARIABLE status ERROR_QUIET)
    if(NOT status EQUAL 0)
      return()
    endif()
  endforeach()
  file(REMOVE ${archives})
  set(${out} TRUE PARENT_SCOPE)
endfunction()
