//go:build !release

package hardware

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azure"
	"github.com/anchorhold/anchorhold/guest/azuresim"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/tsm"
	"github.com/anchorhold/anchorhold/guest/vtpm"
	"github.com/anchorhold/anchorhold/guest/vtpm/vtpmtest"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/brokertest/domaintest"
)

var challenge = [64]byte{4, 5, 6}

// domain is a processor of TDX that is emulated.
type domain struct{ *tdxsim.TDX }

func (domain) Kind() evidence.Kind { return evidence.KindTDX }

func (domain) Bound(context.Context) ([]evidence.Part, error) { return nil, nil }

func (d domain) Sign(ctx context.Context, reportData [64]byte) (evidence.Signed, error) {
	quote, err := d.TDX.Collect(ctx, reportData)
	return evidence.Signed{Primary: quote}, err
}

func (d domain) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	return tdxsim.Collector{TDX: d.TDX}.Collect(ctx, challenge)
}

func newDomain(t *testing.T) (domain, kinds.Options) {
	t.Helper()
	td, err := tdxsim.New(tdxsim.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	v, documents := domaintest.Verifier(t, td, td.RootsPEM())
	return domain{td}, kinds.Options{TDX: v, TDXCollateral: documents}
}

func absent() (processor, error) { return nil, refusal.New(device.ReasonAbsent, "none here") }

func broken() (processor, error) { return nil, refusal.New(device.ReasonFailed, "broken") }

// atAny opens SEV-SNP in the same way for every level.
func atAny(open func() (processor, error)) func(tsm.Privilege) (processor, error) {
	return func(tsm.Privilege) (processor, error) { return open() }
}

func compute(provider string, tpm *settings.TPM) settings.Compute {
	var c settings.Compute
	c.TEE.Provider, c.TEE.TPM = provider, tpm
	return c
}

func wantReason(t *testing.T, err error, want refusal.Reason, words ...string) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

// TestATPMsGuestIsAppraised: alone and beside a processor, with the name that the notice tells the
// operator to enrol.
func TestATPMsGuestIsAppraised(t *testing.T) {
	tpm := &settings.TPM{Device: vtpmtest.Start(t), Bank: "sha384", EventLog: settings.LogNone}
	td, o := newDomain(t)
	d := devices{snp: atAny(absent), tdx: func() (processor, error) { return td, nil }}
	for _, provider := range []string{settings.ProviderVTPM, settings.ProviderTDX} {
		opened, err := d.open(t.Context(), compute(provider, tpm))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(opened.Notice(), "attestation key is ")
		word, _, _ := strings.Cut(after, ";")
		name, err := hex.DecodeString(word)
		if err != nil {
			t.Fatal(opened.Notice(), err)
		}
		env, err := opened.Collect(t.Context(), challenge)
		if err != nil {
			t.Fatal(err)
		}
		o.Enrolled = [][]byte{name}
		claims, err := kinds.New(o).Appraise(t.Context(), env, challenge, time.Now())
		if err != nil || claims.TPM == nil || claims.TPM.Bank != "sha384" || len(claims.TPM.PCRs) != len(settings.DefaultPCRs()) {
			t.Errorf("%s: %+v, %v", provider, claims, err)
		}
	}
	if opened, err := d.open(t.Context(), compute(settings.ProviderTDX, nil)); err != nil || opened.Notice() != "" || opened.KeyName != nil {
		t.Error(opened.Notice(), err)
	}
}

// paravisor puts into a TPM what Azure's paravisor does: its key, and the report over that key. It
// returns the metadata service.
func paravisor(t *testing.T, socket string, td domain) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	tpm, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}}),
	}
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(template)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, PersistentHandle: vtpm.AzureKey}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: key.ObjectHandle}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	public, err := key.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	modulus, err := public.Unique.RSA()
	if err = errors.Join(err, tpm.Close()); err != nil {
		t.Fatal(err)
	}
	vm, err := azuresim.New(azuresim.Options{TDX: td.TDX.Collect, AK: &rsa.PublicKey{N: new(big.Int).SetBytes(modulus.Buffer), E: 65537}})
	if err != nil {
		t.Fatal(err)
	}
	hcl, err := vm.HCL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := vtpm.New(vtpm.Options{Device: socket, PCRs: []int{0}})
	if err != nil {
		t.Fatal(err)
	}
	// swtpm's indices have 2048 bytes at most; what is left out are zeros.
	if err := c.WriteNV(t.Context(), vtpm.AzureReport, bytes.TrimRight(hcl, "\x00")); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(vm)
	t.Cleanup(s.Close)
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
}

// TestAGuestOnAzureIsAppraised from a TPM that takes commands, and its place is found before that of
// any other provider.
func TestAGuestOnAzureIsAppraised(t *testing.T) {
	tpm := &settings.TPM{Device: vtpmtest.Start(t), EventLog: settings.LogNone}
	td, o := newDomain(t)
	d := devices{snp: atAny(absent), tdx: absent, dial: paravisor(t, tpm.Device, td)}
	opened, err := d.open(t.Context(), compute(settings.ProviderAzure, tpm))
	if err != nil {
		t.Fatal(err)
	}
	env, err := opened.Collect(t.Context(), challenge)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := kinds.New(o).Appraise(t.Context(), env, challenge, time.Now())
	if err != nil || claims.Kind != evidence.KindAzureTDX || claims.TPM.AKTrust != evidence.AKReport || opened.Notice() != "" {
		t.Errorf("%+v, %v, %q", claims, err, opened.Notice())
	}
}

// TestAutoTakesWhatIsThere: no processor's device that is broken is passed over, and a TPM alone is never enough.
func TestAutoTakesWhatIsThere(t *testing.T) {
	td, _ := newDomain(t)
	found := func() (processor, error) { return td, nil }
	none, mute := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "mute")
	if err := os.WriteFile(mute, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		d    devices
		want refusal.Reason
	}{
		"SEV-SNP and a TPM that does not answer": {devices{snp: atAny(found), tdx: absent, tpm: mute}, ""},
		"a TPM that does not answer, alone":      {devices{snp: atAny(absent), tdx: absent, tpm: mute}, azure.ReasonReport},
		"SEV-SNP":                                {devices{snp: atAny(found), tdx: broken}, ""}, "TDX": {devices{snp: atAny(absent), tdx: found}, ""},
		"broken SEV-SNP": {devices{snp: atAny(broken), tdx: found}, device.ReasonFailed}, "broken TDX": {devices{snp: atAny(absent), tdx: broken}, device.ReasonFailed},
		"nothing": {devices{snp: atAny(absent), tdx: absent}, azure.ReasonNotAzure},
	} {
		if row.d.tpm == "" {
			row.d.tpm = none
		}
		opened, err := row.d.open(t.Context(), compute(settings.ProviderAuto, nil))
		if row.want == "" && (err != nil || opened.Collector != processor(td)) {
			t.Errorf("%s: %v", name, err)
		} else if row.want != "" {
			wantReason(t, err, row.want)
		}
	}
}

// TestReportsAreAskedForTheConfiguredLevel, also where auto finds SEV-SNP. Without one the kernel
// chooses, which is not level 0.
func TestReportsAreAskedForTheConfiguredLevel(t *testing.T) {
	td, _ := newDomain(t)
	for _, provider := range []string{settings.ProviderSNP, settings.ProviderAuto} {
		for level := -1; level <= tsm.MaxPrivilege; level++ {
			c, want := compute(provider, nil), tsm.Privilege{}
			if level >= 0 {
				c.TEE.VMPL, want = &level, tsm.Level(uint8(level))
			}
			var asked []tsm.Privilege
			d := devices{tpm: filepath.Join(t.TempDir(), "none"), tdx: broken, snp: func(p tsm.Privilege) (processor, error) { asked = append(asked, p); return td, nil }}
			if _, err := d.open(t.Context(), c); err != nil || !slices.Equal(asked, []tsm.Privilege{want}) {
				t.Errorf("%s, level %d: asked for %v, want %v; %v", provider, level, asked, want, err)
			}
		}
	}
}

// TestWhatIsMissingIsSaidAtTheStart, with what to do about it.
func TestWhatIsMissingIsSaidAtTheStart(t *testing.T) {
	none := &settings.TPM{Device: filepath.Join(t.TempDir(), "none")}
	socket := vtpmtest.Start(t)
	d := devices{snp: atAny(absent), tdx: absent}
	for name, row := range map[string]struct {
		c     settings.Compute
		want  refusal.Reason
		words string
	}{
		"no TPM":        {compute(settings.ProviderVTPM, none), vtpm.ReasonNoTPM, "no TPM"},
		"no Azure":      {compute(settings.ProviderAzure, none), azure.ReasonNotAzure, "absent"},
		"another TPM":   {compute(settings.ProviderAzure, &settings.TPM{Device: socket}), azure.ReasonNotAzure, "0x1400001"},
		"no log":        {compute(settings.ProviderVTPM, &settings.TPM{Device: socket, EventLog: none.Device}), vtpm.ReasonDevice, "event_log: none"},
		"no such key":   {compute(settings.ProviderVTPM, &settings.TPM{Device: socket, Key: "0x81010001"}), vtpm.ReasonDevice, "0x81010001"},
		"no template":   {compute(settings.ProviderVTPM, &settings.TPM{Device: socket, Key: settings.KeyGoogle}), vtpm.ReasonDevice, "0x1c10001"},
		"no processor":  {compute(settings.ProviderSNP, nil), device.ReasonAbsent, "amd_sev_snp"},
		"TPM and none":  {compute(settings.ProviderTDX, &settings.TPM{Device: socket}), device.ReasonAbsent, "intel_tdx"},
		"unknown":       {compute("arm_cca", nil), "", "arm_cca"},
		"software's":    {compute(settings.ProviderSoftware, nil), "", "software"},
		"no SHA-1 bank": {compute(settings.ProviderVTPM, &settings.TPM{Device: socket, Bank: "sha1"}), "", "sha1"},
	} {
		opened, err := d.open(t.Context(), row.c)
		if opened.Collector != nil {
			t.Errorf("%s: there is a collector", name)
		}
		t.Run(name, func(t *testing.T) {
			wantReason(t, err, row.want, row.words, "compute.tee.provider: "+row.c.TEE.Provider)
		})
	}
	td, _ := newDomain(t)
	d.tdx = func() (processor, error) { return td, nil }
	_, err := d.open(t.Context(), compute(settings.ProviderTDX, none))
	wantReason(t, err, vtpm.ReasonNoTPM)
}

// TestKeysHaveTheirNames: a configuration's words for the keys of package vtpm.
func TestKeysHaveTheirNames(t *testing.T) {
	for word, want := range map[string]vtpm.Key{
		"": {}, "own": {}, "owner": {Owner: true}, "google": vtpm.GoogleKey(), "google_ecc": vtpm.GoogleKeyECC(), "0x81010001": {Handle: 0x81010001},
	} {
		if got := keyOf(settings.TPM{Key: word}); got != want {
			t.Errorf("%q: %+v", word, got)
		}
	}
}
