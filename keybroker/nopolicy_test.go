package keybroker_test

import "github.com/anchorhold/anchorhold/keybroker/policy"

func noPolicy() *policy.Policy { return nil }
