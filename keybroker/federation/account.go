package federation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Account names a privacy ledger: whose privacy a round spends. It is nothing that an
// operator types: another name would open a spent budget again. It is one of
//
//	broker            the one account of all rounds that name neither of the others
//	sealed:<digest>   a model, by its name and the publisher who signed a sealed file of it
//	model:<digest>    a model by an id, in rounds of earlier versions; none is opened for it
//	dataset:<digest>  data that a publisher signed for
type Account string

// BrokerAccount is charged for rounds that name neither a model nor a dataset, whatever their
// tenant: operators write policies, and with them the tenants' names in leases.
const BrokerAccount Account = "broker"

const (
	sealedAccount  = "sealed:"
	modelAccount   = "model:"
	datasetAccount = "dataset:"
)

// SealedAccount is the account of a model, of all its versions: a model that is sealed anew
// was trained on the same people's data.
func SealedAccount(publisher digest.Digest, name string) Account {
	h := sha256.New()
	h.Write([]byte(labelPrefix + "account/sealed/1\x00"))
	h.Write(publisher[:])
	h.Write([]byte(name))
	return Account(sealedAccount + digest.Sum(h).String())
}

// ModelAccount is the account of a model by its id, as earlier versions had them.
func ModelAccount(id digest.Digest) Account { return Account(modelAccount + id.String()) }

// Former says whether an account is of a kind that no round is opened for any more. What
// was charged to it is never forgotten.
func (a Account) Former() bool { return strings.HasPrefix(string(a), modelAccount) }

// DatasetAccount is the account of data that a publisher signed for.
func DatasetAccount(id digest.Digest) Account { return Account(datasetAccount + id.String()) }

// ParseAccount reads the name of an account.
func ParseAccount(s string) (Account, error) {
	a := Account(s)
	return a, a.check()
}

func (a Account) check() error {
	if a == BrokerAccount {
		return nil
	}
	for _, prefix := range []string{sealedAccount, modelAccount, datasetAccount} {
		if rest, ok := strings.CutPrefix(string(a), prefix); ok && len(rest) == hex.EncodedLen(len(digest.Digest{})) {
			_, err := digest.Parse(rest)
			return err
		}
	}
	return fmt.Errorf("%q is not an account: want %s, %s<digest>, %s<digest> or %s<digest>", string(a), BrokerAccount, sealedAccount, datasetAccount, modelAccount)
}
