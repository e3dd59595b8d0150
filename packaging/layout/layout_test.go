package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/anchorhold/anchorhold"

// arrows lists, for each package of ours, the packages of ours that it may
// import. A package that is missing here is a failure: adding one means
// changing this table and docs/architecture.md together.
var arrows = map[string][]string{
	"guest/evidence": {},
	"guest/clock":    {"guest/evidence"},
	"guest/snp":      {"guest/evidence"},
	"guest/teesim":   {"guest/evidence"},

	"crypto/keybuf":            {},
	"crypto/keybuf/keybuftest": {},
	"crypto/identity":          {"crypto/keybuf"},
	"crypto/filelist":          {"crypto/identity", "crypto/signednote", "guest/evidence"},
	"crypto/signednote":        {"crypto/identity"},
	"crypto/hybridtls":         {"crypto/identity"},
	"crypto/keywrap":           {"crypto/keybuf"},
	"crypto/keyseal":           {"crypto/keywrap", "crypto/keybuf"},
	"crypto/chunkseal":         {"crypto/keybuf"},
	"crypto/he/params":         {},
	"crypto/he/rlwe":           {"crypto/keybuf"},
	"crypto/he/ckks":           {"crypto/he/params", "crypto/keybuf"},
	"crypto/dp":                {},
	"crypto/hadamard":          {},
	"crypto/zk/ceremony":       {"crypto/zk/circuits", "crypto/zk/ptau", "crypto/zk/keyset", "crypto/zk/statement"},
	"crypto/zk/gadget":         {"crypto/zk/statement", "crypto/zk/poseidon2"},
	"crypto/zk/circuits":       {"crypto/zk/gadget", "crypto/zk/statement", "crypto/zk/intnet", "crypto/zk/poseidon2"},
	"crypto/zk/keyset":         {"crypto/zk/statement"},
	"crypto/zk/intnet":         {},
	"crypto/zk/poseidon2":      {},
	"crypto/zk/scalars":        {"crypto/zk/poseidon2", "crypto/zk/statement"},
	"crypto/zk/statement":      {"crypto/zk/intnet", "crypto/zk/poseidon2"},
	"crypto/zk/groth16verify":  {"crypto/zk/statement", "crypto/zk/scalars"},
	"crypto/zk/zktest":         {"crypto/zk/statement", "crypto/zk/scalars"},
	"crypto/zk/plonkverify":    {"crypto/zk/statement", "crypto/zk/scalars"},

	"crypto/zk/ptau":          {},
	"crypto/zk/ptau/ptautest": {},
	"crypto/zk/plonkprove":    {"crypto/zk/ptau"},

	"keybroker/protocol":      {"guest/evidence", "crypto/identity", "crypto/keywrap"},
	"keybroker/appraise":      {"guest/evidence"},
	"keybroker/policy":        {"guest/evidence", "keybroker/protocol", "systemd/config"},
	"keybroker/keystore":      {"crypto/keybuf", "crypto/chunkseal"},
	"keybroker/audit":         {"crypto/identity", "crypto/signednote", "guest/evidence", "keybroker/audit/journal"},
	"keybroker/audit/journal": {},
	"keybroker": {"keybroker/protocol", "keybroker/appraise", "keybroker/policy", "keybroker/keystore",
		"keybroker/audit", "guest/evidence", "crypto/hybridtls", "crypto/identity", "crypto/keyseal", "crypto/keybuf", "systemd/listen"},
	"keybroker/client": {"keybroker/protocol", "crypto/hybridtls", "crypto/identity", "crypto/keywrap", "crypto/keybuf", "guest/evidence"},
	"keybroker/brokertest": {"keybroker", "keybroker/protocol", "keybroker/appraise", "keybroker/policy", "keybroker/keystore",
		"keybroker/audit", "keybroker/client", "guest/evidence", "guest/teesim", "crypto/hybridtls", "crypto/identity", "crypto/keybuf", "systemd/service"},
	"keybroker/strictjson":     {},
	"keybroker/federation":     {"keybroker/strictjson", "crypto/keywrap", "crypto/zk/statement", "keybroker/protocol", "crypto/identity", "crypto/he/params", "crypto/he/rlwe", "guest/evidence"},
	"keybroker/federationtest": {"crypto/chunkseal", "keybroker/federation", "keybroker/protocol", "crypto/he/params", "crypto/he/rlwe", "crypto/identity", "crypto/keybuf", "guest/evidence"},
	"keybroker/introduction":   {"keybroker/protocol", "crypto/hybridtls", "crypto/identity", "guest/evidence"},
	"keybroker/uplink":         {"keybroker/introduction", "keybroker/federation", "keybroker/protocol", "crypto/hybridtls", "crypto/identity", "guest/evidence"},
	"keybroker/rounds": {"crypto/chunkseal", "keybroker/federation", "keybroker/protocol", "crypto/he/params", "crypto/he/rlwe", "crypto/he/ckks", "crypto/dp",
		"crypto/identity", "crypto/keybuf", "guest/evidence"},
	"keybroker/aggregator": {"keybroker/strictjson", "keybroker/epochfile", "crypto/zk/keyset", "keybroker/aggregator/normcheck", "keybroker/aggregator/board", "keybroker/aggregator/durable", "keybroker/federation", "keybroker/protocol", "crypto/he/params", "crypto/he/rlwe", "crypto/hybridtls", "crypto/identity",
		"guest/evidence", "systemd/disk", "systemd/listen"},
	"keybroker/aggregator/durable":        {},
	"keybroker/epochfile":                 {"keybroker/aggregator/durable", "keybroker/protocol", "crypto/identity"},
	"keybroker/aggregator/normcheck":      {"keybroker/federation", "crypto/zk/keyset", "crypto/zk/statement", "guest/evidence"},
	"keybroker/normtest":                  {"crypto/zk/groth16verify", "keybroker/federation", "crypto/zk/keyset", "crypto/zk/statement", "crypto/zk/circuits"},
	"keybroker/aggregator/board":          {"keybroker/aggregator/durable", "keybroker/federation", "keybroker/protocol", "crypto/he/params", "crypto/identity", "guest/evidence"},
	"keybroker/aggregator/daemon":         {"crypto/zk/groth16verify", "crypto/zk/statement", "crypto/zk/keyset", "keybroker/aggregator", "crypto/hybridtls", "crypto/identity", "systemd/*"},
	"keybroker/cmd/anchorhold-aggregator": {"keybroker/aggregator/daemon", "crypto/keybuf", "systemd/commandline", "systemd/journal", "systemd/service"},
	"keybroker/proofs/ledger":             {"keybroker/proofs/wire", "keybroker/protocol", "crypto/zk/statement", "guest/evidence"},
	"keybroker/proofs":                    {"systemd/listen", "keybroker/proofs/ledger", "keybroker/proofs/wire", "keybroker/protocol", "crypto/hybridtls", "crypto/identity", "crypto/zk/statement", "crypto/zk/groth16verify", "guest/evidence"},
	"keybroker/proofs/wire":               {"keybroker/strictjson", "keybroker/protocol", "crypto/identity", "crypto/zk/statement", "guest/evidence"},
	"keybroker/proofs/proofclient":        {"keybroker/introduction", "keybroker/protocol", "keybroker/proofs/wire", "crypto/hybridtls", "crypto/identity", "crypto/zk/statement", "guest/evidence"},
	"keybroker/operator/socket":           {},
	"keybroker/daemon/registry":           {"systemd/listen", "crypto/zk/plonkverify", "crypto/zk/groth16verify", "keybroker/operator", "keybroker/proofs", "keybroker/proofs/wire", "keybroker/receipt", "crypto/identity", "crypto/zk/statement", "guest/evidence"},
	"keybroker/operator":                  {"keybroker/strictjson", "systemd/listen", "keybroker/rounds", "keybroker/federation", "keybroker/policy", "keybroker/keystore", "keybroker/audit", "crypto/keybuf", "crypto/identity", "guest/evidence"},
	"keybroker/statedir":                  {"keybroker/audit", "keybroker/keystore", "keybroker/protocol", "crypto/hybridtls", "crypto/identity", "crypto/keybuf"},
	"keybroker/daemon": {"keybroker/statedir", "keybroker/daemon/registry", "keybroker/operator/socket", "keybroker/proofs", "keybroker", "keybroker/protocol", "keybroker/appraise", "keybroker/policy", "keybroker/keystore", "keybroker/audit", "keybroker/operator", "keybroker/rounds", "keybroker/federation",
		"crypto/*", "guest/evidence", "systemd/*"},
	"keybroker/cmd/anchorhold-broker": {"crypto/keybuf", "keybroker/daemon", "keybroker/appraise", "systemd/commandline", "systemd/journal", "systemd/service"},

	"runtime/gguf":          {},
	"runtime/arena":         {},
	"runtime/kernels":       {},
	"runtime/jinja":         {},
	"runtime/tokenize":      {"runtime/gguf", "runtime/jinja"},
	"runtime/servable":      {"runtime/gguf", "runtime/model", "runtime/tokenize"},
	"runtime/gguf/gguftest": {"runtime/gguf"},
	"runtime/sealer":        {"runtime/servable", "runtime/gguf", "runtime/kernels", "runtime/classifier", "crypto/chunkseal", "crypto/keybuf"},
	"runtime/weights":       {"runtime/gguf", "runtime/arena", "runtime/kernels", "crypto/chunkseal", "crypto/keybuf"},
	"runtime/model":         {"runtime/kernels", "runtime/arena", "runtime/gguf"},
	"runtime/infer":         {"runtime/servable", "runtime/model", "runtime/weights", "runtime/arena", "runtime/tokenize", "runtime/gguf", "runtime/kernels"},
	"runtime/onnx":          {"guest/evidence"},
	"runtime/onnx/onnxtest": {},
	"runtime/layers":        {"runtime/onnx", "guest/evidence"},
	"runtime/classifier":    {"runtime/arena", "crypto/chunkseal", "crypto/keybuf", "crypto/zk/intnet"},
	"runtime/quantize":      {"runtime/layers", "runtime/classifier", "runtime/arena", "crypto/zk/intnet", "guest/evidence"},

	"keybroker/receipt":       {"crypto/identity", "keybroker/protocol", "guest/evidence"},
	"agent/contained":         {},
	"agent/jobs":              {"crypto/chunkseal", "crypto/keybuf", "guest/evidence"},
	"agent/spool":             {"crypto/keybuf", "guest/evidence", "systemd/disk"},
	"agent/worker":            {"agent/contained", "agent/worker/confine", "guest/evidence"},
	"agent/worker/confine":    {},
	"agent/worker/linkage":    {},
	"agent/fedtask":           {"keybroker/federation"},
	"agent/fedwork":           {"agent/worker", "agent/fedtask", "crypto/he/params", "crypto/he/rlwe", "crypto/he/ckks", "crypto/dp", "crypto/hadamard", "crypto/keybuf", "keybroker/federation", "guest/evidence"},
	"agent/worker/workertest": {},
	"agent/worker/pipe":       {"agent/contained"},
	"agent/federate": {"agent/contained", "agent/worker/pipe", "keybroker/receipt", "agent/normproof", "agent/fedtask", "agent/jobs", "agent/spool", "agent/worker", "crypto/dp", "crypto/hadamard", "crypto/he/params", "crypto/identity", "crypto/keybuf", "keybroker/federation", "keybroker/protocol",
		"keybroker/uplink", "guest/evidence"},
	"agent/classify":   {"keybroker/receipt", "agent/settings", "crypto/chunkseal", "crypto/identity", "crypto/zk/intnet", "crypto/keybuf", "crypto/zk/statement", "guest/evidence", "runtime/arena", "runtime/classifier"},
	"agent/prooftask":  {"agent/worker", "agent/worker/pipe", "crypto/keybuf", "crypto/zk/statement", "crypto/zk/keyset", "guest/evidence"},
	"agent/prooftest":  {"crypto/zk/groth16verify", "crypto/zk/ptau", "crypto/zk/ptau/ptautest", "crypto/zk/plonkprove", "agent/settings", "crypto/chunkseal", "crypto/identity", "crypto/zk/intnet", "crypto/keybuf", "crypto/zk/keyset", "crypto/zk/statement", "crypto/zk/circuits", "runtime/classifier", "runtime/layers", "runtime/onnx", "runtime/onnx/onnxtest", "runtime/quantize", "runtime/sealer"},
	"agent/proofwork":  {"crypto/zk/groth16verify", "crypto/zk/keyset", "crypto/zk/plonkprove", "crypto/zk/plonkverify", "agent/prooftask", "agent/worker", "crypto/zk/intnet", "crypto/keybuf", "crypto/zk/statement", "crypto/zk/circuits", "guest/evidence"},
	"agent/proofaudit": {"keybroker/receipt", "keybroker/protocol", "crypto/identity", "crypto/zk/statement", "guest/evidence"},
	"agent/proofs": {"agent/contained", "agent/spool", "agent/classify", "agent/jobs", "agent/proofaudit", "agent/prooftask", "keybroker/receipt", "agent/worker", "crypto/chunkseal", "crypto/zk/intnet", "crypto/keybuf", "crypto/zk/keyset",
		"crypto/zk/statement", "guest/evidence", "systemd/disk"},
	"agent/longwork": {"keybroker/introduction", "agent/spool", "crypto/identity", "keybroker/protocol", "agent/normproof", "agent/prooftask", "agent/proofaudit", "keybroker/proofs/proofclient", "keybroker/proofs/wire", "keybroker/receipt", "crypto/zk/statement", "agent/classify", "agent/federate", "agent/jobs", "agent/localapi", "agent/localapi/workapi", "agent/party", "agent/proofs", "agent/settings", "agent/worker", "crypto/hybridtls", "crypto/keybuf", "crypto/zk/keyset",
		"guest/evidence", "keybroker/client", "keybroker/federation", "keybroker/uplink"},
	"agent/localapi/workapi": {"agent/localapi/intake", "agent/classify", "agent/federate", "agent/fedtask", "agent/jobs", "agent/localapi/oip", "agent/localapi/problem", "agent/party", "keybroker/federation", "guest/evidence"},
	"agent/localapi/oip":     {"agent/localapi/intake", "agent/localapi/rawjson", "agent/classify", "agent/jobs", "agent/localapi/problem", "agent/proofaudit", "keybroker/receipt", "guest/evidence", "runtime/classifier"},
	"agent/normproof":        {"agent/prooftask", "agent/worker", "crypto/zk/keyset", "crypto/zk/statement", "guest/evidence", "keybroker/federation"},
	"agent/party": {"agent/contained", "agent/fedtask", "agent/worker", "crypto/chunkseal", "crypto/he/params", "crypto/identity", "crypto/keybuf", "crypto/keywrap", "keybroker/federation", "keybroker/protocol",
		"keybroker/uplink", "guest/evidence"},
	"agent/localapi/problem": {},
	"agent/localapi/rawjson": {},
	"agent/localapi/intake":  {"agent/localapi/problem", "guest/evidence"},
	"agent/localapi/openai":  {"agent/localapi/intake", "agent/localapi/rawjson", "agent/localapi/problem", "runtime/infer", "runtime/tokenize"},
	"agent/localapi":         {"agent/spool", "systemd/listen", "agent/localapi/intake", "agent/classify", "agent/proofs", "agent/localapi/oip", "agent/localapi/problem", "agent/localapi/openai", "agent/localapi/workapi", "agent/jobs", "agent/federate", "agent/party", "runtime/infer", "runtime/tokenize", "keybroker/receipt", "guest/evidence"},
	"agent/settings":         {"agent/worker/linkage", "systemd/listen", "crypto/chunkseal", "crypto/he/params", "crypto/hybridtls", "crypto/identity", "systemd/config"},
	"agent": {"keybroker/epochfile", "agent/localapi/workapi", "agent/classify", "agent/longwork", "agent/proofs", "agent/localapi/oip", "agent/federate", "keybroker/federation", "keybroker/uplink", "crypto/he/params", "agent/settings", "guest/clock", "guest/evidence", "guest/snp", "keybroker/client", "keybroker/protocol", "crypto/hybridtls", "crypto/identity", "crypto/keybuf", "crypto/chunkseal",
		"runtime/infer", "runtime/servable", "runtime/weights", "runtime/arena", "runtime/gguf", "runtime/tokenize", "agent/localapi", "keybroker/receipt", "systemd/service", "systemd/config", "systemd/deadline"},
	"agent/cmd/anchorhold-agent":  {"agent", "agent/settings", "guest/snp", "guest/teesim", "systemd/journal", "systemd/service"},
	"agent/proofcheck":            {"crypto/zk/statement", "crypto/zk/groth16verify", "crypto/zk/plonkverify", "guest/evidence"},
	"agent/cmd/anchorhold-verify": {"agent/proofcheck", "crypto/zk/statement"},
	"agent/cmd/anchorhold-worker": {"agent/worker", "agent/fedwork", "agent/proofwork"},

	"agent/cli":            {"crypto/keybuf", "guest/evidence"},
	"agent/cli/auditlog":   {"agent/cli", "agent/cli/dial", "agent/cli/keyfile", "crypto/identity", "guest/evidence", "keybroker/audit", "keybroker/operator", "keybroker/protocol"},
	"agent/cli/broker":     {"agent/cli", "agent/cli/dial", "agent/cli/keyfile", "agent/cli/sealed", "crypto/keybuf", "keybroker/audit", "keybroker/keystore", "keybroker/operator", "keybroker/policy"},
	"agent/cli/clitest":    {"agent/cli", "crypto/chunkseal", "crypto/identity", "crypto/keybuf", "keybroker/operator", "runtime/onnx/onnxtest"},
	"agent/cli/convert":    {"agent/cli", "agent/cli/sealed", "crypto/keybuf", "crypto/zk/intnet", "crypto/zk/statement", "guest/evidence", "runtime/classifier", "runtime/layers", "runtime/onnx", "runtime/quantize", "runtime/sealer", "runtime/servable"},
	"agent/cli/dial":       {"agent/cli", "agent/jobs", "keybroker/federation", "keybroker/operator", "keybroker/uplink"},
	"agent/cli/doctor":     {"agent/cli", "agent/settings", "agent/worker/linkage", "crypto/keybuf", "guest/clock", "guest/evidence"},
	"agent/cli/epoch":      {"agent/cli", "agent/cli/dial", "agent/cli/keyfile", "crypto/identity", "guest/evidence", "keybroker/operator", "keybroker/protocol", "keybroker/statedir"},
	"agent/cli/expect":     {"agent/cli", "guest/evidence", "keybroker/policy", "keybroker/protocol", "keybroker/receipt"},
	"agent/cli/fed":        {"agent/cli", "agent/cli/dial", "agent/cli/keyfile", "agent/jobs", "agent/settings", "crypto/he/params", "crypto/identity", "keybroker/federation", "keybroker/protocol"},
	"agent/cli/guest":      {"agent/cli", "agent/cli/dial", "agent/cli/expect", "agent/cli/keyfile", "agent/jobs", "guest/evidence", "keybroker/receipt"},
	"agent/cli/keyfile":    {"agent/cli", "crypto/chunkseal", "crypto/identity", "crypto/keybuf"},
	"agent/cli/keygen":     {"agent/cli", "agent/cli/keyfile", "crypto/chunkseal", "crypto/hybridtls", "crypto/identity", "crypto/keybuf", "keybroker/statedir"},
	"agent/cli/partykey":   {"crypto/he/ckks", "crypto/identity", "keybroker/federation", "keybroker/protocol", "keybroker/uplink"},
	"agent/cli/proof":      {"agent/cli", "agent/cli/dial", "agent/cli/expect", "agent/cli/keyfile", "agent/cli/setup", "agent/proofaudit", "crypto/identity", "crypto/zk/groth16verify", "crypto/zk/keyset", "crypto/zk/plonkverify", "crypto/zk/statement", "guest/evidence", "keybroker/receipt"},
	"agent/cli/registry":   {"agent/cli", "agent/cli/dial", "crypto/zk/keyset", "crypto/zk/statement", "keybroker/operator", "keybroker/proofs", "keybroker/proofs/wire", "keybroker/receipt"},
	"agent/cli/release":    {"agent/cli", "agent/cli/keyfile", "crypto/filelist", "crypto/identity", "crypto/signednote"},
	"agent/cli/round":      {"agent/cli", "agent/cli/dial", "agent/cli/keyfile", "agent/cli/partykey", "agent/cli/sealed", "crypto/he/params", "crypto/zk/keyset", "crypto/zk/statement", "guest/evidence", "keybroker/federation", "keybroker/operator", "keybroker/protocol", "keybroker/rounds"},
	"agent/cli/seal":       {"agent/cli", "agent/cli/convert", "agent/cli/keyfile", "agent/cli/sealed", "crypto/chunkseal", "crypto/identity", "crypto/zk/statement", "runtime/sealer", "runtime/servable"},
	"agent/cli/sealed":     {"agent/cli", "agent/cli/keyfile", "crypto/chunkseal", "crypto/identity", "crypto/keybuf", "crypto/zk/intnet", "crypto/zk/statement", "keybroker/federation", "runtime/arena", "runtime/classifier"},
	"agent/cli/setup":      {"agent/cli", "agent/cli/keyfile", "crypto/zk/ceremony", "crypto/zk/circuits", "crypto/zk/intnet", "crypto/zk/keyset", "crypto/zk/plonkprove", "crypto/zk/ptau", "crypto/zk/statement", "runtime/arena", "runtime/classifier"},
	"agent/cmd/anchorhold": {"agent/cli", "agent/cli/auditlog", "agent/cli/broker", "agent/cli/doctor", "agent/cli/epoch", "agent/cli/fed", "agent/cli/guest", "agent/cli/keygen", "agent/cli/proof", "agent/cli/registry", "agent/cli/release", "agent/cli/round", "agent/cli/seal"},

	"systemd/commandline": {},
	"systemd/service":     {},
	"systemd/journal":     {},
	"systemd/config":      {},
	"systemd/deadline":    {},
	"systemd/disk":        {},
	"systemd/listen":      {},

	"systemd/listen/listentest": {},

	"packaging/layout":     {},
	"packaging/release":    {"crypto/filelist", "crypto/identity", "crypto/keybuf"},
	"packaging/longtest":   {},
	"packaging/testreport": {},
	"packaging/authority":  {},
	"packaging/model":      {},
	"packaging/boottest":   {},
	"packaging/demo":       {"runtime/layers", "runtime/onnx", "runtime/quantize", "crypto/hybridtls", "keybroker/federation", "keybroker/uplink"},
}

// owners names the one package that may import each third-party module. The
// Go project's own modules under golang.org/x are free to all.
var owners = map[string][]string{
	"github.com/cloudflare/circl":       {"crypto/identity", "crypto/keyseal"},
	"github.com/coreos/go-systemd/v22":  {"systemd/service"},
	"github.com/goccy/go-yaml":          {"systemd/config"},
	"github.com/google/go-sev-guest":    {"keybroker/appraise"},
	"github.com/google/go-tdx-guest":    {"keybroker/appraise"},
	"github.com/google/go-tpm":          {"guest/vtpm"},
	"github.com/spf13/cobra":            {"agent/cli", "agent/cli/auditlog", "agent/cli/broker", "agent/cli/clitest", "agent/cli/convert", "agent/cli/dial", "agent/cli/doctor", "agent/cli/epoch", "agent/cli/expect", "agent/cli/fed", "agent/cli/guest", "agent/cli/keyfile", "agent/cli/keygen", "agent/cli/proof", "agent/cli/registry", "agent/cli/release", "agent/cli/round", "agent/cli/seal", "agent/cli/setup", "agent/cmd/anchorhold"},
	"github.com/spf13/pflag":            {"agent/cli"},
	"go.etcd.io/bbolt":                  {"keybroker/keystore", "keybroker/proofs/ledger", "keybroker/rounds", "agent/jobs"},
	"github.com/jackc/pgx/v5":           {"keybroker/rounds"},
	"filippo.io/mldsa":                  {"crypto/identity"},
	"filippo.io/nistec":                 {"keybroker/appraise"},
	"github.com/tuneinsight/lattigo/v6": {"crypto/he/ckks"},
	"google.golang.org/protobuf":        {"runtime/onnx"},
	"github.com/consensys/gnark":        {"crypto/zk/circuits", "crypto/zk/gadget", "crypto/zk/ceremony", "crypto/zkproof/keys", "crypto/zk/plonkverify", "crypto/zk/ptau", "crypto/zk/ptau/ptautest", "crypto/zk/plonkprove", "crypto/zk/zktest"},
	"github.com/consensys/gnark-crypto": {"crypto/zk/scalars", "crypto/zk/groth16verify", "crypto/zk/circuits", "crypto/zk/gadget", "crypto/zk/ceremony", "crypto/zkproof/keys", "crypto/zk/plonkverify", "crypto/zk/ptau", "crypto/zk/ptau/ptautest", "crypto/zk/plonkprove", "crypto/zk/zktest"},
	"golang.org/x/mod":                  {"crypto/signednote", "keybroker/audit"},
	"golang.org/x/":                     {"*"},
}

// agentNever may not be linked into the agent, which holds model keys.
var agentNever = []string{
	"github.com/tuneinsight/lattigo", "github.com/consensys/", "github.com/bits-and-blooms/",
	module + "/crypto/zk/groth16verify", module + "/crypto/zk/plonkverify", module + "/crypto/zk/circuits",
	"github.com/google/go-sev-guest",
	"github.com/google/go-tdx-guest", "github.com/jackc/pgx", "github.com/spf13/cobra", "golang.org/x/mod", "filippo.io/nistec",
	module + "/keybroker/appraise", module + "/keybroker/policy", module + "/keybroker/keystore", module + "/keybroker/audit",
	module + "/guest/teesim", module + "/runtime/onnx", module + "/runtime/layers", module + "/runtime/quantize",
}

// brokerNever may not be linked into a broker built for release.
var brokerNever = []string{
	module + "/guest/teesim", module + "/guest/snp", module + "/runtime/", module + "/agent",
	"github.com/google/go-sev-guest", "github.com/google/go-tdx-guest", "github.com/spf13/cobra",
}

// verifyNever may not be linked into the stand-alone verifier: no compiler of circuits, no
// prover, nothing that holds or speaks for anybody.
var verifyNever = []string{
	"github.com/consensys/gnark/frontend/cs/", "github.com/consensys/gnark/backend/groth16", "github.com/cloudflare/circl", "github.com/spf13/cobra",
	module + "/crypto/zkproof/gadget", module + "/crypto/zkproof/zktest", module + "/runtime/", module + "/keybroker", module + "/keybroker/receipt",
}

var bannedNames = []string{"util", "utils", "common", "helpers", "misc", "types", "models", "base", "core", "runtime", "crypto"}

type goPackage struct {
	ImportPath, Name, Doc, Dir  string
	Standard                    bool
	GoFiles, TestGoFiles        []string
	XTestGoFiles                []string
	Imports                     []string
	TestImports, XTestImports   []string
	IgnoredGoFiles, IgnoredMore []string
}

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Doc,Dir,Standard,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,IgnoredGoFiles"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func allowedArrow(list []string, to string) bool {
	return slices.ContainsFunc(list, func(rule string) bool {
		if prefix, ok := strings.CutSuffix(rule, "/*"); ok {
			return strings.HasPrefix(to, prefix+"/")
		}
		return rule == to
	})
}

// checkArrows reports every import of one package that the tables do not allow.
func checkArrows(p goPackage) []string {
	var bad []string
	self := strings.TrimPrefix(p.ImportPath, module+"/")
	rules, known := arrows[self]
	if !known {
		return []string{self + ": not in the layout table; add it there and in docs/architecture.md"}
	}
	for _, imp := range p.Imports {
		if to, ours := strings.CutPrefix(imp, module+"/"); ours {
			if !allowedArrow(rules, to) {
				bad = append(bad, self+" -> "+to+": forbidden arrow")
			}
			continue
		}
		bad = append(bad, checkOwner(self, imp)...)
	}
	return bad
}

// checkOwner reports a third-party import outside the package that owns it.
func checkOwner(self, imp string) []string {
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		return nil // standard library
	}
	owner := "" // the most specific that fits
	for mod := range owners {
		if (imp == mod || strings.HasPrefix(imp, strings.TrimSuffix(mod, "/")+"/")) && len(mod) > len(owner) {
			owner = mod
		}
	}
	if who := owners[owner]; slices.Contains(who, "*") || slices.Contains(who, self) {
		return nil
	} else if owner != "" {
		return []string{self + " -> " + imp + ": belongs to " + strings.Join(who, ", ")}
	}
	return []string{self + " -> " + imp + ": third-party module without an owner"}
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, tags := range []string{"", "release", "softtee"} {
		for _, p := range goList(t, "-tags="+tags, "./...") {
			for _, bad := range checkArrows(p) {
				t.Errorf("tags %q: %s", tags, bad)
			}
		}
	}
}

func TestArrowCheckBites(t *testing.T) {
	cases := []goPackage{
		{ImportPath: module + "/crypto/keybuf", Imports: []string{module + "/agent"}},
		{ImportPath: module + "/agent/localapi", Imports: []string{"github.com/cloudflare/circl/sign"}},
		{ImportPath: module + "/agent/localapi", Imports: []string{"golang.org/x/mod/sumdb/tlog"}},
		{ImportPath: module + "/agent/unheard-of"},
		{ImportPath: module + "/runtime/gguf", Imports: []string{"example.org/unknown"}},
	}
	for _, p := range cases {
		if len(checkArrows(p)) == 0 {
			t.Errorf("%s importing %v passed", p.ImportPath, p.Imports)
		}
	}
}

// forTests says whether a package makes what only tests may trust: reference strings and keys
// whose secrets this process knew.
func forTests(imp string) bool {
	return strings.HasPrefix(imp, "github.com/consensys/gnark/test") || strings.HasPrefix(imp, module) && strings.HasSuffix(imp, "test")
}

// checkForTests reports every import of such a package by one that is not for tests itself.
func checkForTests(p goPackage) (bad []string) {
	for _, imp := range p.Imports {
		if forTests(imp) && !forTests(p.ImportPath) {
			bad = append(bad, p.ImportPath+" -> "+imp+": only tests may")
		}
	}
	return bad
}

// The library's own reference string, whose secret everybody knows, reaches no binary; nor
// does anything else that makes keys for tests.
func TestWhatIsForTestsStaysInTests(t *testing.T) {
	for _, p := range goList(t, "./...") {
		for _, bad := range checkForTests(p) {
			t.Error(bad)
		}
	}
	for _, imp := range []string{"github.com/consensys/gnark/test/unsafekzg", module + "/crypto/zkproof/ptau/ptautest"} {
		if len(checkForTests(goPackage{ImportPath: module + "/crypto/zkproof/universal", Imports: []string{imp}})) == 0 {
			t.Errorf("an import of %s passes", imp)
		}
	}
}

func TestPackagesAreNamedAndDescribed(t *testing.T) {
	for _, p := range goList(t, "./...") {
		self := strings.TrimPrefix(p.ImportPath, module+"/")
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", self)
		}
		if slices.Contains(bannedNames, p.Name) {
			t.Errorf("%s: the name %q says nothing", self, p.Name)
		}
		if p.Name != "main" && p.Name != path.Base(self) {
			t.Errorf("%s: package is called %s", self, p.Name)
		}
	}
}

func TestBinariesStaySmallWhereTheKeysAre(t *testing.T) {
	for _, tc := range []struct {
		main  string
		never []string
	}{{"./agent/cmd/anchorhold-agent", agentNever}, {"./keybroker/cmd/anchorhold-broker", brokerNever}, {"./agent/cmd/anchorhold-verify", verifyNever}} {
		for _, tags := range []string{"", "release"} {
			for _, p := range goList(t, "-deps", "-tags="+tags, tc.main) {
				for _, never := range tc.never {
					if strings.HasPrefix(p.ImportPath, never) {
						t.Errorf("%s (tags %q) links %s", tc.main, tags, p.ImportPath)
					}
				}
			}
		}
	}
}

func TestReleaseCannotLinkTheSoftwareTEE(t *testing.T) {
	for _, main := range []string{"./agent/cmd/anchorhold-agent", "./keybroker/cmd/anchorhold-broker"} {
		cmd := exec.Command("go", "build", "-tags", "release,softtee", "-o", t.TempDir(), main)
		cmd.Dir = "../.."
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s builds with the tags release and softtee together", main)
		} else if !bytes.Contains(out, []byte("teesim")) && !bytes.Contains(out, []byte("softwareTEE")) && !bytes.Contains(out, []byte("SoftwareTEE")) {
			t.Errorf("%s failed for another reason: %s", main, out)
		}
	}
}
