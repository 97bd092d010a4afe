// faulty-broker is kfake with orders on standard input, one a line, each answered by one line:
//
//	fault KEY TOPIC ERROR COUNT   the next COUNT requests of that kind for TOPIC (or "-" for any) get that error; its number.
//	                              ERROR: a name of Kafka's, or a code
//	hits NUMBER                   how many got it so far
//	remove NUMBER                 no more of it
//
// It ends when standard input does.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func main() {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("hardparts"), kfake.DefaultNumPartitions(2))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer cluster.Close()
	fmt.Println("ready kafka://" + strings.Join(cluster.ListenAddrs(), ","))
	var faults []*kfake.FaultHandle
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 5 && words[0] == "fault":
			fault, err := made(words[1], words[2], words[3], words[4])
			if err != nil {
				fmt.Println("error:", err)
				continue
			}
			faults = append(faults, cluster.Fault(fault))
			fmt.Println(len(faults) - 1)
		case len(words) == 2 && known(words[1], faults) && words[0] == "hits":
			fmt.Println(faults[number(words[1])].Hits())
		case len(words) == 2 && known(words[1], faults) && words[0] == "remove":
			faults[number(words[1])].Remove()
			fmt.Println("removed")
		default:
			fmt.Println("error: no such order:", lines.Text())
		}
	}
}

func made(key, topic, name, count string) (kfake.Fault, error) {
	fault := kfake.Fault{}
	for code := int16(0); code <= kmsg.MaxKey; code++ {
		if kmsg.NameForKey(code) == key {
			fault.Keys = []kmsg.Key{kmsg.Key(code)}
		}
	}
	for code := int16(1); code < 200; code++ {
		if found := kerr.TypedErrorForCode(code); found != nil && found.Message == name {
			fault.Err = found
		}
	}
	if code, err := strconv.ParseInt(name, 10, 16); err == nil {
		fault.Err = &kerr.Error{Message: name, Code: int16(code)}
	}
	if fault.Keys == nil || fault.Err == nil {
		return fault, fmt.Errorf("no request %s or no error %s", key, name)
	}
	if topic != "-" {
		fault.Topic = topic
	}
	var err error
	fault.Count, err = strconv.Atoi(count)
	return fault, err
}

func known(text string, faults []*kfake.FaultHandle) bool {
	return number(text) >= 0 && number(text) < len(faults)
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}
