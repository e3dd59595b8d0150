package federation

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Account names a privacy ledger: whose privacy a round spends. It is nothing that an
// operator types: another name would open a spent budget again. It is one of
//
//	broker            the one account of all rounds that name neither of the others
//	model:<digest>    a model whose key the broker keeps, by the model's id
//	dataset:<digest>  data that a publisher signed for
type Account string

// BrokerAccount is charged for rounds that name neither a model nor a dataset.
const BrokerAccount Account = "broker"

const (
	modelAccount   = "model:"
	datasetAccount = "dataset:"
)

// ModelAccount is the account of a model.
func ModelAccount(id Digest) Account { return Account(modelAccount + id.String()) }

// DatasetAccount is the account of data that a publisher signed for.
func DatasetAccount(id Digest) Account { return Account(datasetAccount + id.String()) }

// ParseAccount reads the name of an account.
func ParseAccount(s string) (Account, error) {
	a := Account(s)
	return a, a.check()
}

func (a Account) check() error {
	if a == BrokerAccount {
		return nil
	}
	for _, prefix := range []string{modelAccount, datasetAccount} {
		if rest, ok := strings.CutPrefix(string(a), prefix); ok && len(rest) == hex.EncodedLen(len(Digest{})) {
			_, err := ParseDigest(rest)
			return err
		}
	}
	return fmt.Errorf("account %q is none: %s, %s<digest> or %s<digest>", string(a), BrokerAccount, modelAccount, datasetAccount)
}
