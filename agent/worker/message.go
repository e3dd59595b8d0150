package worker

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// protocolVersion is the version of header and replies; another is refused. Version 1 had
// no bound of what a worker writes.
const protocolVersion = 2

// Limits of the protocol. A message is one record of a SOCK_SEQPACKET socket,
// so the kernel keeps its length and its descriptors together.
const (
	maxSpec        = 64 << 10
	maxResult      = 64 << 10
	maxMessage     = 96 << 10 // a spec or a result in base64, and the rest
	maxClass       = 32
	maxPhase       = 32
	maxDetail      = 512
	maxDescriptors = 16     // inputs; outputs likewise
	maxOpen        = 64     // of a worker: its task's, the connection, the runtime's own
	maxProgress    = 10_000 // progress messages of one task
	maxWorkers     = 1024
	minMemory      = 32 << 20
	maxMemory      = 1 << 40
	maxOutput      = 1 << 44
	maxTime        = 7 * 24 * time.Hour
)

// Reasons of this package.
const (
	// ReasonTask: the agent's half refused the task before a worker was started.
	ReasonTask refusal.Reason = "bad-worker-task"
	// ReasonHeader: the worker's half refused what came first on its socket.
	ReasonHeader refusal.Reason = "bad-worker-header"
	// ReasonVersion: the worker's half and the agent's are of different versions.
	ReasonVersion refusal.Reason = "worker-version"
	// ReasonOutput: the worker would have written more than its task may.
	ReasonOutput refusal.Reason = "worker-output-too-large"
	// ReasonClass: the worker has no handler of that class.
	ReasonClass refusal.Reason = "unknown-worker-class"
	// ReasonReply: the worker sent something that is not a reply.
	ReasonReply refusal.Reason = "bad-worker-reply"
	// ReasonPeer: the process at the other end may not be the one that it should be.
	ReasonPeer refusal.Reason = "untrusted-worker-peer"
)

// header is the agent's only message. Its record carries the descriptors: the
// worker's standard error, the inputs, the outputs.
type header struct {
	Version   int    `json:"version"`
	Class     string `json:"class"`
	Spec      []byte `json:"spec"`
	MemoryMax int64  `json:"memory_max"`
	TimeMaxMS int64  `json:"time_max_ms"`
	OutputMax int64  `json:"output_max"`
	In        int    `json:"in"`
	Out       int    `json:"out"`
}

// reply is a message of the worker: any number with Progress, then one Final.
type reply struct {
	Progress *Progress `json:"progress,omitempty"`
	Final    *final    `json:"final,omitempty"`
}

// final is how the task ended; a result only if it ended Ok.
type final struct {
	Exit   string `json:"exit"`
	Detail string `json:"detail"`
	Result []byte `json:"result"`
}

// header checks the task and returns its encoding.
func (t Task) header() ([]byte, error) {
	h := header{Version: protocolVersion, Class: t.Class, Spec: t.Spec, MemoryMax: t.Limits.Memory,
		TimeMaxMS: t.Limits.Time.Milliseconds(), OutputMax: t.Limits.Output, In: len(t.In), Out: len(t.Out)}
	if err := h.check(ReasonTask); err != nil {
		return nil, err
	}
	if err := t.checkDescriptors(); err != nil {
		return nil, err
	}
	return encode(&h)
}

func (h *header) check(reason refusal.Reason) error {
	switch {
	case h.Version != protocolVersion:
		return refusal.New(ReasonVersion, "got version %d, want %d; agent and worker must be of the same build", h.Version, protocolVersion)
	case !word(h.Class, maxClass):
		return refusal.New(reason, "class %.40q is not a word of at most %d lower-case letters, digits and '-'", h.Class, maxClass)
	case len(h.Spec) > maxSpec:
		return refusal.New(reason, "the specification has %d bytes, at most %d are allowed", len(h.Spec), maxSpec)
	case h.MemoryMax < minMemory || h.MemoryMax > maxMemory:
		return refusal.New(reason, "the memory bound of %d bytes must be from %d to %d", h.MemoryMax, int64(minMemory), int64(maxMemory))
	case h.TimeMaxMS < 1 || h.TimeMaxMS > maxTime.Milliseconds():
		return refusal.New(reason, "the time bound of %d ms must be from 1 to %d", h.TimeMaxMS, maxTime.Milliseconds())
	case h.OutputMax < 0 || h.OutputMax > maxOutput:
		return refusal.New(reason, "the output bound of %d bytes must be from 0 to %d", h.OutputMax, int64(maxOutput))
	case h.In < 0 || h.In > maxDescriptors || h.Out < 0 || h.Out > maxDescriptors:
		return refusal.New(reason, "got %d inputs and %d outputs, at most %d of each are allowed", h.In, h.Out, maxDescriptors)
	}
	return nil
}

// parseHeader accepts exactly what Task.header produces.
func parseHeader(data []byte) (*header, error) {
	h := new(header)
	if err := parse(data, h, ReasonHeader); err != nil {
		var other struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(data, &other) == nil && other.Version > 0 && other.Version != protocolVersion {
			return nil, refusal.New(ReasonVersion, "got version %d, want %d; agent and worker must be of the same build", other.Version, protocolVersion)
		}
		return nil, err
	}
	return h, h.check(ReasonHeader)
}

// parseReply accepts exactly what a worker of this version sends.
func parseReply(data []byte) (*reply, error) {
	r := new(reply)
	if err := parse(data, r, ReasonReply); err != nil {
		return nil, err
	}
	switch {
	case (r.Progress == nil) == (r.Final == nil):
		return nil, refusal.New(ReasonReply, "a reply must contain either progress or an ending")
	case r.Progress != nil && !word(r.Progress.Phase, maxPhase):
		return nil, refusal.New(ReasonReply, "phase %.40q is not a word", r.Progress.Phase)
	case r.Progress != nil:
		return r, nil
	}
	exit, known := ParseExit(r.Final.Exit)
	switch {
	case !known:
		return nil, refusal.New(ReasonReply, "unknown ending %.40q", r.Final.Exit)
	case r.Final.Detail != printable(r.Final.Detail):
		return nil, refusal.New(ReasonReply, "the detail of %d bytes is too long or not printable", len(r.Final.Detail))
	case len(r.Final.Result) > maxResult:
		return nil, refusal.New(ReasonReply, "the result has %d bytes, at most %d are allowed", len(r.Final.Result), maxResult)
	case exit != Ok && len(r.Final.Result) != 0:
		return nil, refusal.New(ReasonReply, "a result must not come with the ending %q", exit)
	}
	return r, nil
}

// encode is the canonical form of a message: absent bytes are empty ones.
func encode(message any) ([]byte, error) {
	switch m := message.(type) {
	case *header:
		if m.Spec == nil {
			m.Spec = []byte{}
		}
	case *reply:
		if m.Final != nil && m.Final.Result == nil {
			m.Final.Result = []byte{}
		}
	}
	return json.Marshal(message)
}

// parse decodes one message. The standard decoder forgives unknown fields,
// other capitals, duplicates and trailing space; comparing with the canonical
// encoding refuses all of them at once.
func parse(data []byte, into any, reason refusal.Reason) error {
	if len(data) > maxMessage {
		return refusal.New(reason, "the message has more than %d bytes", maxMessage)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return refusal.New(reason, "not a message of this version: %w", err)
	}
	again, err := encode(into)
	if err != nil || !bytes.Equal(again, data) {
		return refusal.New(reason, "not the canonical encoding of a message of this version")
	}
	return nil
}

// word reports whether s is made of 1 to most lower-case letters, digits and '-'.
func word(s string, most int) bool {
	if len(s) == 0 || len(s) > most {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
