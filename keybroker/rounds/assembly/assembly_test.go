package assembly

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// Charges that are alike are one event; what sampling gives is stated apart.
func TestSpendAddsUp(t *testing.T) {
	one := rounds.Charge{Mechanism: federation.DiscreteGaussian, Multiplier: 4, Rate: 0.1}
	single, sampled, err := spend([]rounds.Charge{one}, 1e-5)
	if err != nil || !(sampled < single) {
		t.Fatalf("%g, %g, %v", single, sampled, err)
	}
	four, _, err := spend([]rounds.Charge{one, one, {Mechanism: federation.DiscreteLaplace, Multiplier: 9, Rate: 1}, one}, 1e-5)
	if err != nil || four <= single || four > 4*single {
		t.Errorf("%g after %g, %v", four, single, err)
	}
	if m, err := calibrate(1, 1e-5); err != nil || m < 3 || m > 5 {
		t.Errorf("multiplier %g, %v", m, err)
	}
}

func TestAccountsOfAConfigurationAreRead(t *testing.T) {
	for name, c := range map[string]Config{
		"no account":   {FormerLedgers: map[string]string{"digits": "digits"}},
		"no publisher": {DatasetPublishers: []string{"nobody"}},
	} {
		if _, _, err := c.accounts(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	former, _, err := Config{FormerLedgers: map[string]string{"digits": "broker"}}.accounts()
	if err != nil || former["digits"] != federation.BrokerAccount {
		t.Errorf("%v, %v", former, err)
	}
}

func TestABrokerWithoutRoundsReleasesNoRoundsKey(t *testing.T) {
	none, err := Config{}.Open(Broker{})
	if none != nil || err != nil || none.Service() != nil || none.Unreached() != nil || none.Close() != nil {
		t.Fatal(none, err)
	}
	if reason, _ := refusal.ReasonOf(none.Gate(t.Context(), federation.ResourceClass+"/a", nil)); reason != rounds.ReasonUnknown {
		t.Errorf("a round's key: %q", reason)
	}
	if err := none.Gate(t.Context(), "models/a", nil); err != nil {
		t.Error(err)
	}
}
