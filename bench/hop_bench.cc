// What a hop costs: a chain of 10 empty nodes, one packet after the other from a source to a sink,
// beside a chain of tbb::flow function nodes that carry an int. Prints both, in nanoseconds a hop,
// and by how much memory grew between the first tenth of the packets and the last.
#include <oneapi/tbb/flow_graph.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "engine/runtime/run.h"

namespace {

using engine::runtime::NowNs;

long ResidentKib() {
  std::ifstream in("/proc/self/status");
  std::string word;
  while (in >> word) {
    if (word == "VmRSS:") {
      long kib = 0;
      in >> kib;
      return kib;
    }
  }
  return 0;
}

struct Node {
  uint64_t left = 0;            // source: packets to give
  uint64_t seen = 0;            // sink
  uint64_t total = 0;           // sink: packets expected
  std::vector<uint64_t> marks;  // sink: time at each hundredth
  long first_kib = 0, last_kib = 0;
};

engine_status* Ok(void*, engine_call*) { return nullptr; }

engine_status* Give(void* self, engine_call* call) {
  auto* node = static_cast<Node*>(self);
  const engine_nodes_host* host = engine::runtime::NodesHost();
  if (node->left-- == 1) host->finish(call);
  engine_packet* packet = nullptr;
  engine_status* status = host->packet_new(engine::Str("bench.Empty/1"), nullptr, nullptr, &packet);
  return status != nullptr ? status : host->emit(call, 0, packet, UINT64_MAX);
}

engine_status* Pass(void*, engine_call* call) {
  const engine_nodes_host* host = engine::runtime::NodesHost();
  auto* packet = const_cast<engine_packet*>(host->input(call, 0, 0));
  host->packet_retain(packet);
  return host->emit(call, 0, packet, UINT64_MAX);
}

engine_status* Take(void* self, engine_call*) {
  auto* node = static_cast<Node*>(self);
  if (++node->seen % (node->total / 100) == 0) node->marks.push_back(NowNs());
  if (node->seen == node->total / 10) node->first_kib = ResidentKib();
  if (node->seen == node->total) node->last_kib = ResidentKib();
  return nullptr;
}

template <engine_status* (*process)(void*, engine_call*)>
const engine_node_vtable* Table() {
  static const engine_node_vtable table = {sizeof(engine_node_vtable), &Ok, process, &Ok,
                                           [](void*) {}};
  return &table;
}

// Median over hundredths of the run, in nanoseconds a hop.
double Median(const std::vector<uint64_t>& marks, uint64_t packets, int hops) {
  std::vector<double> each;
  for (size_t i = 1; i < marks.size(); ++i) {
    each.push_back(static_cast<double>(marks[i] - marks[i - 1]) /
                   (static_cast<double>(packets) / 100.0) / hops);
  }
  std::sort(each.begin(), each.end());
  return each[each.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t packets = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  const uint32_t threads = argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 2;
  const int hops = 10;
  Node source, sink;
  source.left = packets;
  sink.total = packets;

  engine::runtime::RunSpec spec;
  spec.executors.push_back({"default", threads, false});
  const auto add = [&](const char* name, const engine_node_vtable* table, void* self, bool in,
                       bool out) {
    engine::runtime::NodeSpec node;
    node.name = name;
    node.vtable = table;
    node.self = self;
    const auto index = static_cast<uint32_t>(spec.nodes.size());
    if (in) {
      node.inputs.push_back({});
      spec.nodes.back().outputs[0].targets.push_back({index, 0});
    }
    if (out) node.outputs.push_back({});
    spec.nodes.push_back(std::move(node));
  };
  add("source", Table<&Give>(), &source, false, true);
  for (int i = 0; i < hops - 1; ++i) add("pass", Table<&Pass>(), &sink, true, true);
  add("sink", Table<&Take>(), &sink, true, false);
  engine::runtime::Run run(std::move(spec), {});
  engine::Status status = run.Open();
  run.Start();
  if (status.ok()) status = run.Wait();
  if (!status.ok() || sink.seen != packets) {
    std::fprintf(stderr, "the chain lost packets: %llu of %llu; %s\n",
                 static_cast<unsigned long long>(sink.seen),
                 static_cast<unsigned long long>(packets), std::string(status.message()).c_str());
    return 1;
  }

  namespace flow = oneapi::tbb::flow;
  std::vector<uint64_t> marks;
  {
    flow::graph graph;
    using Stage = flow::function_node<int, int>;
    std::vector<std::unique_ptr<Stage>> stages;
    uint64_t seen = 0;
    for (int i = 0; i < hops; ++i) {
      const bool last = i == hops - 1;
      stages.push_back(std::make_unique<Stage>(graph, flow::serial, [&, last](int v) {
        if (last && ++seen % (packets / 100) == 0) marks.push_back(NowNs());
        return v;
      }));
      if (i != 0) flow::make_edge(*stages[static_cast<size_t>(i) - 1], *stages.back());
    }
    for (uint64_t i = 0; i < packets; ++i) stages[0]->try_put(1);
    graph.wait_for_all();
  }
  std::printf(
      "{\"packets\": %llu, \"hops\": %d, \"threads\": %u, \"ns_per_hop\": %.0f, "
      "\"tbb_flow_ns_per_hop\": %.0f, \"memory_growth_kib\": %ld}\n",
      static_cast<unsigned long long>(packets), hops, threads, Median(sink.marks, packets, hops),
      Median(marks, packets, hops), sink.last_kib - sink.first_kib);
  return 0;
}
