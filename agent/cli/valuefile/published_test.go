package valuefile

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// published is a statement that a publisher signed.
func published(tb testing.TB, change func(*publication.Statement)) ([]byte, identity.Public) {
	tb.Helper()
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		tb.Fatal(err)
	}
	defer k.Wipe()
	s := &publication.Statement{Format: 1, Name: "images/web-7", Made: "2026-12-01T17:00:00Z",
		Values: []publication.Value{{ID: "images/web-7/vtpm/ready", Kind: "vtpm", Covers: "image", Platform: "a TPM",
			Registers: map[string]string{"pcr4": strings.Repeat("1", 64), "pcr11": strings.Repeat("2", 64), "pcr12": strings.Repeat("0", 64)},
			Checked:   map[string]publication.Check{"pcr4": "vectors", "pcr11": "boot", "pcr12": "formula"}}},
		Gaps: []publication.Gap{{Platform: "a TPM", Kind: "vtpm", Registers: []string{"pcr7"}, Why: "no log was given", Instead: "require.event_log"}}}
	if change != nil {
		change(s)
	}
	signed, err := publication.Sign(k, s)
	if err != nil {
		tb.Fatal(err)
	}
	return signed, k.Public()
}

func TestAPublishersStatementIsRead(t *testing.T) {
	signed, publisher := published(t, nil)
	_, other := published(t, nil)
	f, err := Read("web-7.values", signed, Options{Trust: Trust{Publishers: []identity.Public{other, publisher}}})
	if err != nil {
		t.Fatal(err)
	}
	values, err := policy.ParseReferenceValues(f.YAML())
	if err != nil || len(values) != 1 {
		t.Fatalf("%+v, %v", values, err)
	}
	v := values[0]
	if v.ID != "images/web-7/vtpm/ready" || v.Covers != "image" || len(v.Registers) != 3 || v.Registers["pcr11"] != strings.Repeat("2", 64) ||
		!strings.Contains(v.Source, "web-7.values, signed by publisher "+publisher.String()) || !strings.Contains(v.Description, "pcr11: boot") {
		t.Errorf("%+v", v)
	}
	if text := string(f.YAML()); !strings.Contains(text, "# No value of pcr7 for a TPM: no log was given. Instead: require.event_log.") || f.Form != FormPublished {
		t.Errorf("%s", text)
	}
}

func TestPublishersStatementsAreBelievedForTheirPublisherAlone(t *testing.T) {
	signed, publisher := published(t, nil)
	_, other := published(t, nil)
	gaps, gapsBy := published(t, func(s *publication.Statement) { s.Values = nil })
	trust := Trust{Publishers: []identity.Public{publisher}}
	_, err := Read("f", signed, Options{})
	wantReason(t, "nobody", err, ReasonSigner)
	if !strings.Contains(err.Error(), "was not given (--signer publisher.key.pub)") {
		t.Error(err)
	}
	_, err = Read("f", signed, Options{Trust: Trust{Publishers: []identity.Public{other}}})
	wantReason(t, "another publisher", err, ReasonSigner)
	_, err = Read("f", signed, Options{Trust: Trust{Unsigned: "a test"}})
	wantReason(t, "as an unsigned one", err, ReasonUnsupported)
	for _, o := range []Options{{ID: "x"}, {Covers: "image"}, {Product: "Milan"}} {
		o.Trust = trust
		_, err = Read("f", signed, o)
		wantReason(t, "what the statement says itself", err, ReasonUnsupported)
	}
	_, err = Read("f", []byte(strings.Replace(string(signed), `"image"`, `"firmware"`, 1)), Options{Trust: trust})
	wantReason(t, "changed", err, publication.ReasonInvalid)
	_, err = Read("f", gaps, Options{Trust: Trust{Publishers: []identity.Public{gapsBy}}})
	wantReason(t, "gaps alone", err, ReasonEmpty)
	_, err = ReadPublished("f", []byte("format: 2\n"), trust)
	wantReason(t, "not signed", err, ReasonUnsigned)
	if _, err = ReadPublished("f", signed, trust); err != nil || !IsPublished(signed) {
		t.Error(err)
	}
}
