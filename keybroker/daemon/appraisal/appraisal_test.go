//go:build !release

package appraisal

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/gpusim"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

var asked = [64]byte{1, 2, 3}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// trustDomain is an emulated guest, and a directory with its platform's collateral.
func trustDomain(t *testing.T, o tdxsim.Options) (*tdxsim.TDX, string) {
	t.Helper()
	o.Now = time.Now()
	td, err := tdxsim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, dir, td)
	return td, dir
}

// put puts an emulated platform's documents into a directory, as an import does.
func put(t *testing.T, dir string, td *tdxsim.TDX) {
	t.Helper()
	docs, err := td.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	key, err := collateral.ParseKey("intel-tdx/50806f000000/platform/standard")
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(collateral.Item{Key: key, Fetched: time.Now(), Documents: collateral.TDXDocuments(docs).Documents()}); err != nil {
		t.Fatal(err)
	}
}

func tdxSettings(dir string) settings.Appraisal {
	return settings.Appraisal{Collateral: settings.Collateral{Directory: dir, Offline: true}, TDX: settings.TDX{MinimumEvaluationNumber: 18}}
}

func opened(t *testing.T, c settings.Appraisal, rootsPEM []byte) *Appraiser {
	t.Helper()
	roots, err := SoftwareTEE(rootsPEM)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(c, roots, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func quoteOf(t *testing.T, td *tdxsim.TDX) evidence.Envelope {
	t.Helper()
	quote, err := td.Collect(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	env, err := evidence.NewEnvelope(evidence.KindTDX, evidence.Part{Type: evidence.PartTDXQuote, Data: quote})
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestZeroSettingsJudgeSNPAlone: a configuration of before the other kinds means what it meant.
func TestZeroSettingsJudgeSNPAlone(t *testing.T) {
	tee := brokertest.TEE(t)
	td, _ := trustDomain(t, tdxsim.Options{})
	a := opened(t, settings.Appraisal{}, append(tee.RootsPEM(), td.RootsPEM()...))
	if !slices.Equal(a.Kinds(), []evidence.Kind{evidence.KindSNP, evidence.KindAzureSNP}) {
		t.Error(a.Kinds())
	}
	env, err := tee.Collect(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := a.Appraise(t.Context(), env, asked, time.Now()); err != nil || !c.SoftwareTEE {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = a.Appraise(t.Context(), quoteOf(t, td), asked, time.Now())
	wantReason(t, err, kinds.ReasonKind)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil || a.Metrics() != nil {
		t.Error(err, a.Metrics())
	}
}

// TestATrustDomainIsJudgedByTheDirectory, of both versions of quotes; and by its roots, its minimum
// evaluation number and what it holds alone.
func TestATrustDomainIsJudgedByTheDirectory(t *testing.T) {
	for _, version := range []uint16{4, 5} {
		td, dir := trustDomain(t, tdxsim.Options{Guest: tdxsim.Guest{Version: version}})
		env := quoteOf(t, td)
		a := opened(t, tdxSettings(dir), td.RootsPEM())
		if c, err := a.Appraise(t.Context(), env, asked, time.Now()); err != nil || !c.SoftwareTEE || c.TDX.TCB.Status != evidence.TCBUpToDate {
			t.Errorf("version %d: %+v, %v", version, c, err)
		}
		if ends := a.Ends(); !slices.ContainsFunc(ends, func(e appraise.End) bool { return e.Kind == "tdx_collateral" && e.At.After(time.Now()) }) {
			t.Error(ends)
		}
		if m := a.Metrics(); m["anchorhold_broker_collateral_items"] != 7 || m["anchorhold_broker_collateral_missing"] != 6 || m["anchorhold_broker_collateral_ended"] != 0 {
			t.Error(m)
		}
		strict := tdxSettings(dir)
		strict.TDX.MinimumEvaluationNumber = 19
		_, err := opened(t, strict, td.RootsPEM()).Appraise(t.Context(), env, asked, time.Now())
		wantReason(t, err, "tdx-evaluation-number")
		_, err = opened(t, tdxSettings(dir), brokertest.TEE(t).RootsPEM()).Appraise(t.Context(), env, asked, time.Now())
		wantReason(t, err, "tdx-root-not-trusted")
		_, err = opened(t, tdxSettings(t.TempDir()), td.RootsPEM()).Appraise(t.Context(), env, asked, time.Now())
		wantReason(t, err, collateral.ReasonMissing)
	}
}

// TestReleasesBelieveTheirRootsAlone: without software roots nothing of an emulator's is accepted.
func TestReleasesBelieveTheirRootsAlone(t *testing.T) {
	td, dir := trustDomain(t, tdxsim.Options{})
	a, err := Open(tdxSettings(dir), Roots{}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_, err = a.Appraise(t.Context(), quoteOf(t, td), asked, time.Now())
	wantReason(t, err, "tdx-root-not-trusted")
}

// TestKeysOfTPMsAreBelievedAsConfigured: by certificate, by enrolment, or not at all.
func TestKeysOfTPMsAreBelievedAsConfigured(t *testing.T) {
	name := "000b" + strings.Repeat("5a", 32)
	for _, c := range []settings.TPM{{Enrolled: []string{name}}, {Roots: []string{settings.RootGoogle}, WithoutRevocation: "test"}, {Roots: []string{strings.Repeat("5a", 32)}, WithoutRevocation: "test"}} {
		a, err := Open(settings.Appraisal{TPM: c, GPU: true}, Roots{}, discard())
		if err != nil || !slices.Contains(a.Kinds(), evidence.KindVTPM) {
			t.Error(a, err)
		}
	}
}

// TestFilesThatCannotBeReadAreNamed: no setting is dropped silently.
func TestFilesThatCannotBeReadAreNamed(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	for name, c := range map[string]settings.Appraisal{
		"certificates": {Certificates: []string{absent}}, "lists": {RevocationLists: []string{absent}},
		"tpm lists": {TPM: settings.TPM{Roots: []string{settings.RootGoogle}, RevocationLists: []string{absent}}},
		"gpu lists": {GPU: true, GPURevocationLists: []string{absent}},
		"directory": {Collateral: settings.Collateral{Directory: absent}},
		"tpm":       {TPM: settings.TPM{Roots: []string{settings.RootGoogle}, Certificates: []string{absent}, WithoutRevocation: "test"}},
	} {
		if a, err := Open(c, Roots{}, discard()); err == nil || a != nil || !strings.Contains(err.Error(), "absent") {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	if a, err := Open(settings.Appraisal{TDX: settings.TDX{MinimumEvaluationNumber: 1}}, Roots{}, discard()); err == nil || a != nil {
		t.Error("TDX without collateral:", err)
	}
}

// TestSoftwareRootsAreOfKnownKinds: a file of something else is a mistake.
func TestSoftwareRootsAreOfKnownKinds(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := SoftwareTEE([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestAGraceIsDatedAndShown: ended documents are judged by until then, and every status says so.
func TestAGraceIsDatedAndShown(t *testing.T) {
	td, dir := trustDomain(t, tdxsim.Options{Lists: tdxsim.Lists{ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: time.Now().Add(-time.Hour)}})
	env := quoteOf(t, td)
	c := tdxSettings(dir)
	_, err := opened(t, c, td.RootsPEM()).Appraise(t.Context(), env, asked, time.Now())
	wantReason(t, err, collateral.ReasonMissing) // it is offline, and what ended is not used
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	c.Collateral.Grace = settings.CollateralGrace{Until: until.Format(time.RFC3339), Reason: "maintenance"}
	a := opened(t, c, td.RootsPEM())
	if _, err := a.Appraise(t.Context(), env, asked, time.Now()); err != nil {
		t.Error(err)
	}
	if !slices.Contains(a.Ends(), appraise.End{Kind: "collateral_grace", Name: "maintenance", At: until}) {
		t.Error(a.Ends())
	}
	_, err = a.Appraise(t.Context(), env, asked, until)
	wantReason(t, err, "tdx-collateral-expired")
	c.Collateral.Grace.Until = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	a = opened(t, c, td.RootsPEM())
	if slices.ContainsFunc(a.Ends(), func(e appraise.End) bool { return e.Kind == "collateral_grace" }) {
		t.Error("a grace that is over is shown")
	}
	_, err = a.Appraise(t.Context(), env, asked, time.Now())
	wantReason(t, err, collateral.ReasonMissing)
}

// TestListsOfGPUsAndTPMsAreAskedAndReplaced while the broker runs, and their ends are shown.
func TestListsOfGPUsAndTPMsAreAskedAndReplaced(t *testing.T) {
	g, err := gpusim.New(gpusim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	list, err := g.Revocation(0, 1, time.Now().Add(-time.Hour), until, false)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "list.crl")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	c := settings.Appraisal{GPU: true, GPURevocationLists: []string{file}, TPM: settings.TPM{Roots: []string{settings.RootGoogle}, RevocationLists: []string{file}}}
	a, err := Open(c, Roots{}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if strings.Contains(said.String(), "revocation is not checked") {
		t.Error(said.String())
	}
	if ends := a.Ends(); len(ends) != 2 || ends[0] != (appraise.End{Kind: "revocation_list", Name: "NVIDIA Device Identity CA", At: until}) {
		t.Error(ends)
	}
	for name, set := range map[string]func([][]byte) error{"tpm": a.SetTPMRevocationLists, "gpu": a.SetGPURevocationLists} {
		if err := set([][]byte{list}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := set([][]byte{{1}}); err == nil {
			t.Errorf("%s: a damaged list was taken", name)
		}
	}
	c.GPURevocationLists, c.TPM.RevocationLists, c.TPM.WithoutRevocation = nil, nil, "test"
	none, err := Open(c, Roots{}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if strings.Count(said.String(), "revocation is not checked") != 2 {
		t.Error(said.String())
	}
	bare := opened(t, settings.Appraisal{}, brokertest.TEE(t).RootsPEM())
	if bare.SetTPMRevocationLists(nil) == nil || bare.SetGPURevocationLists(nil) == nil || none.SetGPURevocationLists([][]byte{list}) == nil {
		t.Error("lists were taken that nobody asks")
	}
}
