#include "node.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "engine/ext/async.h"
#include "engine/request.hpp"
#include "engine/util.hpp"

namespace engine::guided {
namespace {

// A prompt with a guide: the ids are those of the packet that it keeps.
struct Guided : engine_tokens {
  OwnedRequest owned_request;
  engine_guide owned_guide;
  std::shared_ptr<Guide> guide;
  Packet keep;

  static engine_status* Allowed(void* self, uint64_t stream, const int32_t* tokens, uint64_t count,
                                const uint64_t** allowed) {
    Status status = static_cast<Guide*>(self)->Allowed(stream, tokens, count, allowed);
    // Trying again would not help: it is the form's own fault.
    if (status.code() == ENGINE_RESOURCE_EXHAUSTED) {
      status = Status(ENGINE_INVALID_ARGUMENT, std::string(status.message()));
    }
    return status.release();
  }
};

Status KindOf(uint32_t form, Kind* out) {
  switch (form) {
    case ENGINE_FORM_JSON:
      *out = Kind::kAnyObject;
      return Status();
    case ENGINE_FORM_JSON_SCHEMA:
      *out = Kind::kSchema;
      return Status();
    case ENGINE_FORM_REGEX:
      *out = Kind::kRegex;
      return Status();
    case ENGINE_FORM_TOOLS:
      *out = Kind::kTools;
      return Status();
    default:
      return Error(ENGINE_INVALID_ARGUMENT, "form ", form, " is none that is known here");
  }
}

}  // namespace

// One request whose form is compiled elsewhere.
struct Constrain::Work {
  std::shared_ptr<GuideCache> cache;
  engine_completion* completion = nullptr;
  uint32_t port = 0;
  Kind kind = Kind::kAnyObject;
  std::unique_ptr<Guided> made;

  void Answer(Status status) {
    const engine_nodes_host* nodes = ThisHost().nodes;
    Packet packet;
    if (status.ok()) status = Finish(&packet);
    if (status.ok()) {
      status = Status(nodes->completion_emit(completion, port, packet.release(), kSameGroup));
    }
    nodes->completion_done(completion, status.release());
  }
  std::string_view text() const { return View(made->owned_request.value.form_text); }
  Status Finish(Packet* packet) {
    Guided& g = *made;
    g.owned_guide = {sizeof(engine_guide), 0, g.guide.get(), &Guided::Allowed};
    g.owned_request.sampling.guide = &g.owned_guide;
    g.request = g.owned_request.Finish(/*with_sampling=*/true);
    return Packet::Make<engine_tokens, Guided>(std::move(made), packet);
  }
};

// The cache for the model as it is in this call: the host may have put another in its place.
Status Constrain::CacheOf(const engine_model* m, std::shared_ptr<GuideCache>* out) {
  std::lock_guard lock(mutex_);
  if (made_for_ != m) {
    const engine_model_host* api = ThisHost().model;
    engine_model_info info = Sized<engine_model_info>();
    api->info(m, &info);
    std::vector<std::string> tokens;
    std::vector<int32_t> ends;
    for (int32_t id = 0; id < info.vocab; ++id) {
      engine_str bytes = {};
      if (api->token_stops(m, id) != 0) {
        ends.push_back(id);
      } else {
        ENGINE_RETURN_IF_ERROR(Status(api->token_bytes(m, id, &bytes)));
      }
      tokens.emplace_back(View(bytes));
    }
    std::shared_ptr<const Vocabulary> vocabulary;
    ENGINE_RETURN_IF_ERROR(Vocabulary::Make(tokens, &vocabulary));
    Limits limits;
    limits.compile = std::chrono::milliseconds(options.compile_ms);
    limits.streams = 256;  // one that is forgotten is walked again
    // All sequences wait for the step that a mask is made in: about 15 ms at most, or the request
    // ends.
    limits.configurations = 512;
    limits.work = 4'000'000;
    cache_ =
        std::make_shared<GuideCache>(std::move(vocabulary), std::move(ends), limits, options.cache);
    made_for_ = m;
  }
  *out = cache_;
  return Status();
}

Status Constrain::Process(Call& call) {
  const engine_tokens tokens = Known(*in.Get(call));
  ThisHost().nodes->packet_retain(const_cast<engine_packet*>(in.Raw(call)));
  Packet packet(const_cast<engine_packet*>(in.Raw(call)));
  const bool asks = tokens.request != nullptr && Known(*tokens.request).form != ENGINE_FORM_FREE;
  if (!asks) return call.Emit(out.index(), std::move(packet));
  auto work = std::make_unique<Work>();
  work->made = std::make_unique<Guided>();
  static_cast<engine_tokens&>(*work->made) = tokens;
  OwnedRequest& request = work->made->owned_request;
  request.sampling.top_p = 1;  // where it says nothing of sampling
  request.Copy(*tokens.request);
  work->made->keep = std::move(packet);
  ENGINE_RETURN_IF_ERROR(KindOf(request.value.form, &work->kind));
  if ((request.sampling.flags & ENGINE_SAMPLING_IGNORE_END) != 0 ||
      request.sampling.min_tokens != 0) {
    return Error(ENGINE_INVALID_ARGUMENT,
                 "an answer that keeps to a form ends where the form does: leave ignore_eos and "
                 "min_tokens out");
  }
  ENGINE_RETURN_IF_ERROR(CacheOf(model.Get(call), &work->cache));
  work->port = out.index();
  if (ThisHost().async == nullptr) {
    return Error(ENGINE_FAILED_PRECONDITION, "this host has no I/O threads (", ENGINE_EXT_ASYNC,
                 ")");
  }
  Status known;
  if (work->cache->Find(work->kind, work->text(), &known, &work->made->guide)) {
    ENGINE_RETURN_IF_ERROR(std::move(known));
    Packet done;
    ENGINE_RETURN_IF_ERROR(work->Finish(&done));
    return call.Emit(out.index(), std::move(done));
  }
  ENGINE_RETURN_IF_ERROR(Status(ThisHost().nodes->defer(call.get(), &work->completion)));
  std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(work));
  if (compilers_ == kCompilers) return Status();
  ++compilers_;
  const Status started(ThisHost().async->run(&Compile, this));
  if (started.ok()) return Status();
  --compilers_;
  waiting_.back()->Answer(Status(started.code(), std::string(started.message())));
  waiting_.pop_back();
  return Status();
}

// Until nobody waits. The node lives as long as any of its calls is open.
void Constrain::Compile(void* arg) {
  auto* self = static_cast<Constrain*>(arg);
  for (;;) {
    std::unique_ptr<Work> work;
    {
      std::lock_guard lock(self->mutex_);
      if (self->waiting_.empty()) {
        --self->compilers_;
        self->idle_.notify_all();
        return;
      }
      work = std::move(self->waiting_.front());
      self->waiting_.pop_front();
    }
    work->Answer(work->cache->Get(work->kind, work->text(), &work->made->guide));
  }
}

// A compiler may still be about to see that nobody waits.
Constrain::Constrain() = default;
Constrain::~Constrain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return compilers_ == 0; });
}

}  // namespace engine::guided
