package main

// Assets of docs/threat-model.md, each a secret that is drawn anew in every run.
const (
	assetModelKey  = "model key"
	assetWeights   = "weights"
	assetPrompt    = "prompt"
	assetAnswer    = "answer"
	assetGradient  = "gradient"
	assetRoundKey  = "round key"
	assetMemberKey = "member key"
	assetKEK       = "broker.kek"

	assetServiceSecret = "service secret"
	assetVolumeKey     = "volume key"
	assetSectorKeys    = "sector keys" // of the volume, which the volume key opens
	assetVolumeFile    = "file in a volume"
)

// assets in the order of the table.
var assets = []string{assetModelKey, assetWeights, assetPrompt, assetAnswer, assetGradient, assetRoundKey, assetMemberKey, assetServiceSecret, assetVolumeKey, assetSectorKeys, assetVolumeFile, assetKEK}

// Places that are searched: of the host, of the broker's host, and of the guest.
const (
	placeDisk    = "host: disk image"
	placeTPM     = "host: TPM state"
	placeSerial  = "host: serial ports"
	placeNetwork = "host: network"
	placeMemory  = "guest's RAM"

	placeBrokerFiles  = "broker: files"
	placeBrokerLog    = "broker: log"
	placeBrokerMemory = "broker: memory"
	placeBrokerStart  = "broker: environment, arguments"

	placeAgent   = "guest: agent"
	placeWorkers = "guest: workers"
	placeClient  = "guest: client"
	placeOthers  = "guest: other processes"
	placeStart   = "guest: environments, arguments"
	placeFiles   = "guest: files"
	placeJournal = "guest: journal"
	placeSwap    = "guest: swap"
	placeCores   = "guest: core files"
	placeKeyring = "guest: keyring"
)

// places in the order of the table.
var places = []string{placeDisk, placeTPM, placeSerial, placeNetwork, placeMemory, placeBrokerFiles, placeBrokerLog, placeBrokerMemory, placeBrokerStart,
	placeAgent, placeWorkers, placeClient, placeOthers, placeStart, placeFiles, placeJournal, placeSwap, placeCores, placeKeyring}

// Moments at which all places are searched.
const (
	before        = "before"
	afterTask     = "after a task"
	during        = "during"
	afterCrash    = "killed"
	afterWatchdog = "watchdog"
	afterLease    = "lease over"
	afterStop     = "stopped"
	afterShutdown = "shut down"
)

// moments in the order of the table, which is that of the audit.
var moments = []string{before, afterTask, during, afterLease, afterCrash, afterWatchdog, afterStop, afterShutdown}

// inUse are the moments at which a service has its secret, and the volume is open.
var inUse = []string{during, afterLease, afterCrash, afterWatchdog}

// claim says where an asset may be in plaintext, and when. What no claim allows must not be found.
type claim struct {
	assets, places, moments []string
	// found means that it must be found there at these moments: a search that does not see what is there has no worth.
	found bool
	why   string
}

// control is a text that the audit plants where it must find it, at each moment from the first on.
type control struct {
	name   string
	places []string
}

const (
	controlState       = "control-state"
	controlTPM         = "control-tpm"
	controlBrokerStart = "control-broker-start"
)

var controls = []control{
	{"control-swap", []string{placeSwap, placeDisk}},
	{"control-cores", []string{placeCores, placeDisk}},
	{"control-files", []string{placeFiles, placeDisk}},
	{"control-shm", []string{placeFiles, placeMemory}},
	{"control-keyring", []string{placeKeyring, placeMemory}},
	{"control-journal", []string{placeJournal}},
	{"control-console", []string{placeSerial}},
	{"control-network", []string{placeNetwork}},
	{"control-start", []string{placeStart}},
	{"control-memory", []string{placeOthers, placeMemory}},
	{controlTPM, []string{placeTPM}},
	{controlState, []string{placeBrokerFiles, placeBrokerMemory}},
	{controlBrokerStart, []string{placeBrokerStart}},
}

// claims are those of docs/threat-model.md, "Where plaintext is". The first that fits counts.
var claims = []claim{
	{[]string{assetModelKey, assetWeights}, []string{placeMemory}, []string{afterTask, during}, true,
		"In use under a lease: the key in secret memory, the weights in locked memory. The TEE encrypts the guest's RAM; here the host reads it through QEMU to see what there is."},
	{[]string{assetWeights}, []string{placeAgent}, []string{afterTask, during}, true,
		"The same memory as root in the guest reads it. Root in the guest is the guest."},
	{[]string{assetPrompt}, []string{placeMemory, placeClient}, []string{during}, true,
		"The client has what it asks."},
	{[]string{assetPrompt, assetAnswer}, []string{placeMemory, placeAgent, placeClient}, []string{during}, false,
		"Of requests under way, and of those before until the collector comes (two minutes when nothing happens), or the lease ends."},
	{[]string{assetGradient}, []string{placeMemory, placeAgent}, []string{afterTask, during}, false,
		"Read from the client's request and on its way to the worker, until the collector comes or the lease ends. The worker's memory ends with its task."},
	{[]string{assetServiceSecret, assetVolumeKey}, []string{placeMemory}, []string{afterTask, during}, true,
		"Held for other services of the guest while the lease lasts, in secret memory, which the kernel shows nobody, root neither."},
	{[]string{assetServiceSecret}, []string{placeMemory, placeFiles}, inUse, true,
		"A service keeps what it was handed until it ends: here a credential, in a file system of its own in memory. The end of a lease takes nothing back."},
	{[]string{assetSectorKeys}, []string{placeMemory}, inUse, true,
		"The kernel's, while the volume is open."},
	{[]string{assetVolumeFile}, []string{placeMemory, placeFiles}, inUse, true,
		"What is in a volume is in the kernel's cache, and readable for whoever may, while it is open. On the disk it is encrypted."},
}
